/*!
 * Part of keras_privpart, Apache-2.0. Made from privpart.ts by `npm run build`.
 */
export class PrivPartError extends Error {
    name = "PrivPartError";
}
export class ContractError extends PrivPartError {
    name = "ContractError";
}
export class BundleError extends PrivPartError {
    name = "BundleError";
}
export class IntegrityError extends BundleError {
    name = "IntegrityError";
}
export class ServingError extends PrivPartError {
    name = "ServingError";
}
export class ArgumentError extends ServingError {
    name = "ArgumentError";
}
export class BoundaryMismatchError extends ServingError {
    name = "BoundaryMismatchError";
}
export class PairMismatchError extends ServingError {
    name = "PairMismatchError";
}
export class ServerUnavailableError extends ServingError {
    name = "ServerUnavailableError";
}
export class DeadlineExceededError extends ServingError {
    name = "DeadlineExceededError";
}
export class ServerNotFoundError extends ServingError {
    name = "ServerNotFoundError";
}
export class RequestRefusedError extends ServingError {
    name = "RequestRefusedError";
}
export class PermissionRefusedError extends ServingError {
    name = "PermissionRefusedError";
}
export class ServerOverloadedError extends ServingError {
    name = "ServerOverloadedError";
}
export class ServerBusyError extends ServerOverloadedError {
    name = "ServerBusyError";
}
export class ServerFailedError extends ServingError {
    name = "ServerFailedError";
}
const SCHEMA = 1;
const FIRST_PAUSE = 50, LONGEST_PAUSE = 1000;
const BUSY = "Server Threadpool Exhausted";
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const STATUS = {
    401: PermissionRefusedError, 403: PermissionRefusedError, 404: ServerNotFoundError, 408: DeadlineExceededError, 413: ServerOverloadedError,
    429: ServerOverloadedError, 502: ServerUnavailableError, 503: ServerUnavailableError, 504: DeadlineExceededError,
};
export class Client {
    manifest;
    litert;
    model;
    server;
    timeout;
    headers;
    paired = false;
    closed = false;
    constructor(manifest, litert, model, server, timeout, headers) {
        this.manifest = manifest;
        this.litert = litert;
        this.model = model;
        this.server = server;
        this.timeout = timeout;
        this.headers = headers;
    }
    static async load(options) {
        const server = serverOf(options);
        const base = new URL(options.bundle ?? "./", options.bundle === undefined ? import.meta.url : globalThis.location?.href);
        if (!base.pathname.endsWith("/"))
            base.pathname += "/";
        const raw = await fetchBytes(new URL("manifest.json", base));
        if (options.manifestSha256 !== undefined)
            await checkHash(raw, options.manifestSha256, "manifest.json");
        const manifest = readManifest(raw);
        const half = await fetchBytes(new URL(manifest.model.file, base));
        await checkHash(half, manifest.model.sha256, manifest.model.file);
        const litert = await runtimeOf(options, new URL("runtime/", base));
        const model = await litert.loadAndCompile(half, { accelerator: "wasm" }).catch((error) => {
            throw new BundleError(`LiteRT.js can't load the device half: ${error}. Export the bundle again.`, { cause: error });
        });
        try {
            checkDetails("input", manifest.inputs, model.getInputDetails());
            checkDetails("boundary", manifest.boundary, model.getOutputDetails());
        }
        catch (error) {
            model.delete();
            throw error;
        }
        const token = options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` };
        return new Client(manifest, litert, model, server, options.timeout ?? 10_000, { "Content-Type": "application/json", ...token });
    }
    async predict(x) {
        return this.score(await this.encode(x));
    }
    async encode(x) {
        this.checkOpen();
        const examples = sliced(x, this.manifest.inputs), boundaries = [];
        for (const example of examples)
            boundaries.push(await this.run(example));
        return boundaries;
    }
    async score(boundaries) {
        this.checkOpen();
        if (!boundaries.length)
            throw new ArgumentError("Received no example; expected at least one.");
        for (const boundary of boundaries)
            checkBoundary(this.manifest.boundary, boundary);
        const answers = [];
        for (let start = 0; start < boundaries.length; start += this.manifest.max_batch_size) {
            answers.push(await this.send(boundaries.slice(start, start + this.manifest.max_batch_size)));
        }
        return joined(answers);
    }
    async confirmPair() {
        await this.askForPair(performance.now() + this.timeout);
    }
    close() {
        if (!this.closed)
            this.model.delete();
        this.closed = true;
    }
    checkOpen() {
        if (this.closed)
            throw new ServingError("Received a client that was closed; expected an open one. Load another.");
    }
    async run(example) {
        const made = [];
        try {
            const inputs = {};
            for (const spec of this.manifest.inputs) {
                made.push(inputs[spec.name] = new this.litert.Tensor(example[spec.name], [1, ...spec.shape]));
            }
            const outputs = await this.model.run(inputs);
            made.push(...Object.values(outputs));
            const boundary = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.toTypedArray().slice()]));
            checkBoundary(this.manifest.boundary, boundary);
            return boundary;
        }
        finally {
            for (const tensor of made)
                tensor.delete();
        }
    }
    async send(boundaries) {
        const end = performance.now() + this.timeout;
        const inputs = Object.fromEntries(this.manifest.boundary.map(({ name }) => [name, boundaries.map((one) => ({ b64: base64(one[name]) }))]));
        const body = JSON.stringify({ signature_name: "serve_bytes", inputs });
        for (let pause = FIRST_PAUSE;; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
            try {
                if (!this.paired)
                    await this.askForPair(end);
                return readAnswer(this.manifest, await this.post(body, end), boundaries.length);
            }
            catch (error) {
                if (!(error instanceof ServerBusyError))
                    this.paired = false;
                const again = error instanceof ServerUnavailableError || error instanceof ServerBusyError;
                if (!again || performance.now() + pause >= end)
                    throw error instanceof ServerNotFoundError ? await this.explained(error, end) : error;
                await new Promise((resolve) => setTimeout(resolve, pause));
            }
        }
    }
    async askForPair(end) {
        let named;
        try {
            named = (await this.post(JSON.stringify({ signature_name: "pair", inputs: [0] }), end)).outputs;
        }
        catch (error) {
            if (error instanceof RequestRefusedError)
                throw this.mismatch(`it does not say which pair it is of (${error.message})`, error);
            throw error;
        }
        const got = Array.isArray(named) && named.length === 1 ? String(named[0]) : JSON.stringify(named);
        if (got !== this.manifest.fingerprint) {
            throw this.mismatch(`its fingerprint is ${got?.slice(0, 12)}..., this device half belongs to ${this.manifest.fingerprint.slice(0, 12)}...`);
        }
        this.paired = true;
    }
    mismatch(reason, cause) {
        const { name, version } = this.manifest;
        return new PairMismatchError(`The server's version ${version} of '${name}' is not this device half's partner: ${reason}. Nothing was sent. The device half is out `
            + "of date, or the server serves another bundle: use the same bundle on both sides.", { cause });
    }
    async explained(error, end) {
        const { name, version } = this.manifest;
        try {
            const status = await this.ask(`/v1/models/${name}`, {}, end);
            const held = status.model_version_status.filter(({ state }) => state === "AVAILABLE").map((one) => Number(one.version)).sort((a, b) => a - b);
            if (!held.length || held.includes(version))
                return error;
            const hint = version < held.at(-1) ? "The device half is out of date: use the bundle's newer version." : "Export the bundle's version to the server first.";
            return new ServerNotFoundError(`${error.message} The server has version ${held.join(", ")}, not ${version}. ${hint}`, { cause: error });
        }
        catch {
            return error;
        }
    }
    post(body, end) {
        const { name, version } = this.manifest;
        return this.ask(`/v1/models/${name}/versions/${version}:predict`, { method: "POST", headers: this.headers, body }, end);
    }
    async ask(path, request, end) {
        const left = end - performance.now();
        if (left <= 0)
            throw new DeadlineExceededError(`${this.server}: no answer in time. Raise timeout, or send fewer examples.`);
        let status, text;
        try {
            const answer = await fetch(this.server + path, {
                ...request, signal: AbortSignal.timeout(left), credentials: "omit", redirect: "error", cache: "no-store", referrerPolicy: "no-referrer",
            });
            [status, text] = [answer.status, await answer.text()];
        }
        catch (error) {
            if (error.name === "TimeoutError") {
                throw new DeadlineExceededError(`${this.server}: no answer in time. Raise timeout, or send fewer examples.`, { cause: error });
            }
            throw new ServerUnavailableError(`${this.server}: ${error.message}. Check the address, that the server is up, and that it allows this page's origin `
                + "(`privpart-keras serve --cors`, or a proxy).", { cause: error });
        }
        let body;
        try {
            body = JSON.parse(text);
        }
        catch (error) {
            if (status === 200)
                throw new ServerFailedError(`${this.server}: the answer is no JSON.`, { cause: error });
            body = text.slice(0, 200);
        }
        if (status !== 200) {
            const said = body?.error ?? String(body);
            const other = status >= 500 && status !== 501 ? ServerFailedError : RequestRefusedError;
            throw new (said.includes(BUSY) ? ServerBusyError : STATUS[status] ?? other)(`${this.server}: HTTP ${status}: ${said}`);
        }
        return body;
    }
}
function serverOf(options) {
    const timeout = options.timeout ?? 1;
    if (!(timeout > 0))
        throw new ServingError(`Received timeout=${timeout}; expected milliseconds above 0.`);
    const url = URL.canParse(options.server) ? new URL(options.server) : undefined;
    if (url?.protocol !== "http:" && url?.protocol !== "https:") {
        throw new ServingError(`Received the server ${options.server}; expected an address such as "http://localhost:8501".`);
    }
    if (options.token !== undefined && url.protocol !== "https:") {
        throw new ServingError(`Received a token for ${url.origin}; expected an https address: others could read the token.`);
    }
    return url.href.replace(/\/+$/, "");
}
async function fetchBytes(url) {
    let answer;
    try {
        answer = await fetch(url, { credentials: "same-origin", cache: "no-cache" });
    }
    catch (error) {
        throw new BundleError(`Can't fetch ${url.href}: ${error.message}.`, { cause: error });
    }
    if (!answer.ok)
        throw new BundleError(`Can't fetch ${url.href}: HTTP ${answer.status}. Publish the whole folder web/ of the bundle.`);
    return new Uint8Array(await answer.arrayBuffer());
}
async function checkHash(bytes, want, file) {
    if (globalThis.crypto?.subtle === undefined) {
        throw new IntegrityError(`Can't verify ${file}: browsers hash only for pages from https or localhost. Serve the page so.`);
    }
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const got = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (got !== want)
        throw new IntegrityError(`${file} differs from what was exported (SHA-256 ${got}; expected ${want}). Publish the bundle again.`);
}
function readManifest(raw) {
    let found;
    try {
        found = JSON.parse(new TextDecoder().decode(raw));
    }
    catch (error) {
        throw new ContractError("manifest.json is no JSON. Publish the bundle again.", { cause: error });
    }
    if (found?.schema !== SCHEMA) {
        throw new ContractError(`manifest.json has schema ${found?.schema}; this module reads ${SCHEMA}. Use the module that was exported beside it.`);
    }
    const lists = [found.inputs, found.boundary, found.outputs];
    const texts = [found.name, found.fingerprint, found.model?.file, found.model?.sha256];
    const whole = [found.version, found.max_batch_size].every((one) => Number.isInteger(one) && one > 0);
    if (!whole || texts.some((one) => typeof one !== "string" || !one) || lists.some((one) => !Array.isArray(one) || !one.length)) {
        throw new ContractError("manifest.json lacks fields, or they are no such thing. Publish the bundle again.");
    }
    return found;
}
const loading = new WeakMap();
async function runtimeOf(options, beside) {
    try {
        const litert = options.runtime ?? await import(new URL("index.js", beside).href);
        const folder = new URL(options.wasm ?? beside, globalThis.location?.href).href;
        const loaded = litert.getGlobalLiteRtPromise() ?? loading.get(litert) ?? litert.loadLiteRt(folder);
        loading.set(litert, loaded);
        await loaded;
        return litert;
    }
    catch (error) {
        throw new BundleError(`Can't load LiteRT.js: ${error}. Export with --with-runtime, or pass runtime= and wasm= of @litertjs/core; a CSP must allow `
            + "'wasm-unsafe-eval'.", { cause: error });
    }
}
function checkDetails(what, specs, details) {
    const text = (list, batch) => JSON.stringify(list.map(({ name, dtype, shape }) => `${name}: ${dtype}[${[...batch, ...Array.from(shape)]}]`).sort());
    const got = text(details, []), want = text(specs, [1]);
    if (got !== want)
        throw new IntegrityError(`The device half has the ${what} tensors ${got}; the manifest declares ${want}. Publish the bundle again.`);
}
function sizeOf(spec) {
    return spec.shape.reduce((size, dim) => size * dim, 1);
}
function sliced(x, specs) {
    const plain = Array.isArray(x) || ArrayBuffer.isView(x);
    const named = plain ? { [specs[0].name]: x } : x;
    const want = specs.map(({ name }) => name).sort().join(", "), got = Object.keys(named).sort().join(", ");
    if (got !== want)
        throw new ArgumentError(`Received inputs by the names ${got}; expected ${want}. Nothing was sent.`);
    const counts = specs.map((spec) => named[spec.name].length / sizeOf(spec));
    const count = counts[0];
    if (!Number.isInteger(count) || count < 1 || counts.some((other) => other !== count)) {
        const lengths = specs.map(({ name }) => `${name}: ${named[name].length}`).join(", ");
        const sizes = specs.map((spec) => `${spec.name}: ${sizeOf(spec)}`).join(", ");
        throw new ArgumentError(`Received so many values: ${lengths}; expected the same multiple of ${sizes}. Nothing was sent.`);
    }
    return Array.from({ length: count }, (_, i) => Object.fromEntries(specs.map((spec) => {
        const size = sizeOf(spec), part = named[spec.name].slice(i * size, (i + 1) * size);
        return [spec.name, converted(spec, part)];
    })));
}
function converted(spec, values) {
    const array = ARRAYS[spec.dtype].from(values);
    const kept = spec.dtype === "float32" ? array.every(Number.isFinite) : array.every((value, i) => value === values[i]);
    if (!kept)
        throw new ArgumentError(`Received values for ${spec.name} that ${spec.dtype} cannot hold. Nothing was sent.`);
    return array;
}
function checkBoundary(specs, boundary) {
    const got = Object.keys(boundary).sort().join(", "), want = specs.map(({ name }) => name).sort().join(", ");
    if (got !== want)
        throw new BoundaryMismatchError(`Received the tensors ${got}; the contract declares ${want}. Nothing was sent.`);
    for (const spec of specs) {
        const array = boundary[spec.name];
        if (!(array instanceof ARRAYS[spec.dtype]) || array.length !== sizeOf(spec)) {
            throw new BoundaryMismatchError(`Received '${spec.name}' as ${array?.constructor.name}[${array?.length}]; the contract declares ${spec.dtype}[${spec.shape}]. Nothing was sent.`);
        }
    }
}
function base64(values) {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 0x8000)
        text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    return btoa(text);
}
function readAnswer(manifest, body, count) {
    const outputs = (body.outputs ?? {});
    const names = manifest.outputs.map(({ name }) => name), want = [...names, "pair_fingerprint"].sort().join(", ");
    const got = Object.keys(outputs).sort().join(", ");
    if (got !== want)
        throw new ServerFailedError(`The server answered ${got}; expected ${want}.`);
    const pairs = outputs["pair_fingerprint"];
    if (!Array.isArray(pairs) || pairs.length !== count || pairs.some((one) => one !== manifest.fingerprint)) {
        throw new PairMismatchError(`An answer for version ${manifest.version} of '${manifest.name}' came from another pair than the server named before; the answer was `
            + "discarded. Serve one bundle at this address, and start again.");
    }
    return Object.fromEntries(manifest.outputs.map((spec) => [spec.name, flattened(spec, outputs[spec.name], count)]));
}
function flattened(spec, nested, count) {
    const shape = [];
    for (let part = nested; Array.isArray(part); part = part[0])
        shape.push(part.length);
    const data = [nested].flat(shape.length);
    const fits = shape.length === spec.shape.length + 1 && [count, ...spec.shape].every((dim, i) => dim === null || dim === shape[i]);
    if (!fits || data.length !== shape.reduce((a, b) => a * b, 1) || data.some(Array.isArray)) {
        throw new ServerFailedError(`The server answered '${spec.name}' as [${shape}] to ${count} examples; the contract declares [${[count, ...spec.shape]}].`);
    }
    return { data, shape };
}
function joined(answers) {
    return Object.fromEntries(Object.entries(answers[0]).map(([name, first]) => {
        const parts = answers.map((answer) => answer[name]);
        return [name, { data: parts.flatMap((part) => part.data), shape: [parts.reduce((sum, part) => sum + part.shape[0], 0), ...first.shape.slice(1)] }];
    }));
}
