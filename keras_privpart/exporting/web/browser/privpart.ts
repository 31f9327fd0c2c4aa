/*!
 * Part of keras_privpart, Apache-2.0. Made from privpart.ts by `npm run build`.
 */

/**
 * The device half of a bundle in a browser: runs it with LiteRT.js, sends the boundary and nothing else, and returns the server half's answer.
 *
 * It fails closed, with the error names of the Python client: the half's SHA-256 is compared before it is compiled, the server is asked for
 * its pair before it is sent anything, every answer must name that pair, and no tensor leaves that the manifest does not declare.
 */

// The error tree, as in keras_privpart/errors.py.
export class PrivPartError extends Error { override readonly name: string = "PrivPartError"; }
export class ContractError extends PrivPartError { override readonly name: string = "ContractError"; }
export class BundleError extends PrivPartError { override readonly name: string = "BundleError"; }
export class IntegrityError extends BundleError { override readonly name: string = "IntegrityError"; }
export class ServingError extends PrivPartError { override readonly name: string = "ServingError"; }
export class ArgumentError extends ServingError { override readonly name: string = "ArgumentError"; }
export class BoundaryMismatchError extends ServingError { override readonly name: string = "BoundaryMismatchError"; }
export class PairMismatchError extends ServingError { override readonly name: string = "PairMismatchError"; }
export class ServerUnavailableError extends ServingError { override readonly name: string = "ServerUnavailableError"; }
export class DeadlineExceededError extends ServingError { override readonly name: string = "DeadlineExceededError"; }
export class ServerNotFoundError extends ServingError { override readonly name: string = "ServerNotFoundError"; }
export class RequestRefusedError extends ServingError { override readonly name: string = "RequestRefusedError"; }
export class PermissionRefusedError extends ServingError { override readonly name: string = "PermissionRefusedError"; }
export class ServerOverloadedError extends ServingError { override readonly name: string = "ServerOverloadedError"; }
export class ServerBusyError extends ServerOverloadedError { override readonly name: string = "ServerBusyError"; }
export class ServerFailedError extends ServingError { override readonly name: string = "ServerFailedError"; }

export type Values = Float32Array | Int32Array | Uint8Array;
/** Values of one example or of several, row after row. */
export type Input = Values | readonly number[];

/** One tensor of one example. A quantised one stands for `scale * (value - zero_point)`. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly (number | null)[];
  readonly dtype: string;
  readonly scale?: number;
  readonly zero_point?: number;
}

/** `manifest.json`, which `privpart-keras export --format web` writes. */
export interface Manifest {
  readonly schema: number;
  readonly name: string;
  readonly version: number;
  readonly fingerprint: string;
  readonly encoding: string;
  readonly max_batch_size: number;
  readonly model: { readonly file: string; readonly sha256: string; readonly bytes: number };
  readonly inputs: readonly TensorSpec[];
  readonly boundary: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/** One output for all examples; text stays text, and numbers are as JavaScript reads them. */
export interface Answer {
  readonly data: readonly (number | string | boolean)[];
  /** The examples first. */
  readonly shape: readonly number[];
}

interface LiteRtTensor { readonly type: { readonly dtype: string }; toTypedArray(): Values; delete(): void; }
interface LiteRtDetails { readonly name: string; readonly dtype: string; readonly shape: ArrayLike<number>; }
interface LiteRtModel {
  getInputDetails(): readonly LiteRtDetails[];
  getOutputDetails(): readonly LiteRtDetails[];
  run(inputs: Record<string, LiteRtTensor>): Promise<Record<string, LiteRtTensor>>;
  delete(): void;
}
/** What is used of `@litertjs/core`. */
export interface LiteRt {
  loadLiteRt(path: string): Promise<unknown>;
  getGlobalLiteRtPromise(): Promise<unknown> | undefined;
  loadAndCompile(model: Uint8Array, options: { accelerator: "wasm" }): Promise<LiteRtModel>;
  Tensor: new (data: Values, shape: number[]) => LiteRtTensor;
}

export interface ClientOptions {
  /** The server's REST port or a proxy before it, such as `https://models.example.com`. */
  readonly server: string;
  /** Folder of `manifest.json`; that of this module when left out. */
  readonly bundle?: string | URL;
  /** SHA-256 of `manifest.json`, for pages that pin it. */
  readonly manifestSha256?: string;
  /** `@litertjs/core` as it was imported; `runtime/index.js` beside the manifest when left out (`export --with-runtime`). */
  readonly runtime?: LiteRt;
  /** Folder of LiteRT.js' `.wasm` files; `runtime/` beside the manifest when left out. */
  readonly wasm?: string | URL;
  /** Milliseconds for one request with all its tries. */
  readonly timeout?: number;
  /** Sent as `Authorization: Bearer <token>`; needs HTTPS, and a proxy that checks it. */
  readonly token?: string;
}

const SCHEMA = 1;
const FIRST_PAUSE = 50, LONGEST_PAUSE = 1000;
const BUSY = "Server Threadpool Exhausted";
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array } as const;
type ErrorClass = new (message: string, options?: ErrorOptions) => ServingError;
const STATUS: Readonly<Record<number, ErrorClass>> = {
  401: PermissionRefusedError, 403: PermissionRefusedError, 404: ServerNotFoundError, 408: DeadlineExceededError, 413: ServerOverloadedError,
  429: ServerOverloadedError, 502: ServerUnavailableError, 503: ServerUnavailableError, 504: DeadlineExceededError,
};

/**
 * A bundle's device half, and the way to its server half.
 *
 * @example
 * const client = await Client.load({ server: "http://localhost:8501" });
 * const { scores } = await client.predict(pixels);
 */
export class Client {
  /** Whether nothing has failed since the server showed its pair. */
  private paired = false;
  private closed = false;

  private constructor(
    readonly manifest: Manifest,
    private readonly litert: LiteRt,
    private readonly model: LiteRtModel,
    private readonly server: string,
    private readonly timeout: number,
    private readonly headers: Readonly<Record<string, string>>,
  ) {}

  /**
   * Fetches, verifies and compiles the device half. The server is not asked yet.
   *
   * @throws ContractError, IntegrityError: the files are not what they should be.
   * @throws BundleError: LiteRT.js is missing, or cannot load the half.
   * @throws ServingError: an argument is wrong.
   */
  static async load(options: ClientOptions): Promise<Client> {
    const server = serverOf(options);
    const base = new URL(options.bundle ?? "./", options.bundle === undefined ? import.meta.url : globalThis.location?.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    const raw = await fetchBytes(new URL("manifest.json", base));
    if (options.manifestSha256 !== undefined) await checkHash(raw, options.manifestSha256, "manifest.json");
    const manifest = readManifest(raw);
    const half = await fetchBytes(new URL(manifest.model.file, base));
    await checkHash(half, manifest.model.sha256, manifest.model.file);
    const litert = await runtimeOf(options, new URL("runtime/", base));
    const model = await litert.loadAndCompile(half, { accelerator: "wasm" }).catch((error: unknown) => {
      throw new BundleError(`LiteRT.js can't load the device half: ${error}. Export the bundle again.`, { cause: error });
    });
    try {
      checkDetails("input", manifest.inputs, model.getInputDetails());
      checkDetails("boundary", manifest.boundary, model.getOutputDetails());
    } catch (error) {
      model.delete();
      throw error;
    }
    const token: Record<string, string> = options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` };
    return new Client(manifest, litert, model, server, options.timeout ?? 10_000, { "Content-Type": "application/json", ...token });
  }

  /**
   * Runs the device half here, sends the boundary, and returns the server half's answer.
   *
   * @param x values of one example or of several: an array where the model has one input, else one array an input, by name.
   * @returns the outputs by name.
   */
  async predict(x: Input | Readonly<Record<string, Input>>): Promise<Record<string, Answer>> {
    return this.score(await this.encode(x));
  }

  /** Runs the device half here, and sends nothing: the boundary by name, one array an example. */
  async encode(x: Input | Readonly<Record<string, Input>>): Promise<Record<string, Values>[]> {
    this.checkOpen();
    const examples = sliced(x, this.manifest.inputs), boundaries = [];
    for (const example of examples) boundaries.push(await this.run(example));
    return boundaries;
  }

  /** Sends given boundaries, one an example, and returns the answers. The only place where tensors leave. */
  async score(boundaries: readonly Readonly<Record<string, Values>>[]): Promise<Record<string, Answer>> {
    this.checkOpen();
    if (!boundaries.length) throw new ArgumentError("Received no example; expected at least one.");
    for (const boundary of boundaries) checkBoundary(this.manifest.boundary, boundary);
    const answers: Record<string, Answer>[] = [];
    for (let start = 0; start < boundaries.length; start += this.manifest.max_batch_size) {
      answers.push(await this.send(boundaries.slice(start, start + this.manifest.max_batch_size)));
    }
    return joined(answers);
  }

  /** Asks the server for its pair, as the first request would. */
  async confirmPair(): Promise<void> {
    await this.askForPair(performance.now() + this.timeout);
  }

  /** Frees the device half. */
  close(): void {
    if (!this.closed) this.model.delete();
    this.closed = true;
  }

  private checkOpen(): void {
    if (this.closed) throw new ServingError("Received a client that was closed; expected an open one. Load another.");
  }

  private async run(example: Readonly<Record<string, Values>>): Promise<Record<string, Values>> {
    const made: LiteRtTensor[] = [];
    try {
      const inputs: Record<string, LiteRtTensor> = {};
      for (const spec of this.manifest.inputs) {
        made.push(inputs[spec.name] = new this.litert.Tensor(example[spec.name]!, [1, ...spec.shape as number[]]));
      }
      const outputs = await this.model.run(inputs);
      made.push(...Object.values(outputs));
      // Copies: the originals lie in memory that LiteRT.js uses again.
      const boundary = Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.toTypedArray().slice() as Values]));
      checkBoundary(this.manifest.boundary, boundary);
      return boundary;
    } finally {
      for (const tensor of made) tensor.delete();
    }
  }

  private async send(boundaries: readonly Readonly<Record<string, Values>>[]): Promise<Record<string, Answer>> {
    const end = performance.now() + this.timeout;
    const inputs = Object.fromEntries(this.manifest.boundary.map(({ name }) => [name, boundaries.map((one) => ({ b64: base64(one[name]!) }))]));
    const body = JSON.stringify({ signature_name: "serve_bytes", inputs });
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      try {
        if (!this.paired) await this.askForPair(end);
        return readAnswer(this.manifest, await this.post(body, end), boundaries.length);
      } catch (error) {
        if (!(error instanceof ServerBusyError)) this.paired = false; // another server may be there after a restart
        const again = error instanceof ServerUnavailableError || error instanceof ServerBusyError;
        if (!again || performance.now() + pause >= end) throw error instanceof ServerNotFoundError ? await this.explained(error, end) : error;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  private async askForPair(end: number): Promise<void> {
    let named: unknown;
    try {
      named = (await this.post(JSON.stringify({ signature_name: "pair", inputs: [0] }), end) as { outputs?: unknown }).outputs;
    } catch (error) {
      if (error instanceof RequestRefusedError) throw this.mismatch(`it does not say which pair it is of (${error.message})`, error);
      throw error;
    }
    const got = Array.isArray(named) && named.length === 1 ? String(named[0]) : JSON.stringify(named);
    if (got !== this.manifest.fingerprint) {
      throw this.mismatch(`its fingerprint is ${got?.slice(0, 12)}..., this device half belongs to ${this.manifest.fingerprint.slice(0, 12)}...`);
    }
    this.paired = true;
  }

  private mismatch(reason: string, cause?: unknown): PairMismatchError {
    const { name, version } = this.manifest;
    return new PairMismatchError(
      `The server's version ${version} of '${name}' is not this device half's partner: ${reason}. Nothing was sent. The device half is out `
      + "of date, or the server serves another bundle: use the same bundle on both sides.", { cause });
  }

  /** Says what a server has instead of the version that it was asked for, if it says so itself. */
  private async explained(error: ServerNotFoundError, end: number): Promise<ServerNotFoundError> {
    const { name, version } = this.manifest;
    try {
      const status = await this.ask(`/v1/models/${name}`, {}, end) as { model_version_status: { version: string; state: string }[] };
      const held = status.model_version_status.filter(({ state }) => state === "AVAILABLE").map((one) => Number(one.version)).sort((a, b) => a - b);
      if (!held.length || held.includes(version)) return error;
      const hint = version < held.at(-1)! ? "The device half is out of date: use the bundle's newer version." : "Export the bundle's version to the server first.";
      return new ServerNotFoundError(`${error.message} The server has version ${held.join(", ")}, not ${version}. ${hint}`, { cause: error });
    } catch {
      return error;
    }
  }

  private post(body: string, end: number): Promise<unknown> {
    const { name, version } = this.manifest;
    return this.ask(`/v1/models/${name}/versions/${version}:predict`, { method: "POST", headers: this.headers, body }, end);
  }

  private async ask(path: string, request: RequestInit, end: number): Promise<unknown> {
    const left = end - performance.now();
    if (left <= 0) throw new DeadlineExceededError(`${this.server}: no answer in time. Raise timeout, or send fewer examples.`);
    let status: number, text: string;
    try {
      // No cookies and no way to another address: what a redirect would lead to was never asked for its pair.
      const answer = await fetch(this.server + path, {
        ...request, signal: AbortSignal.timeout(left), credentials: "omit", redirect: "error", cache: "no-store", referrerPolicy: "no-referrer",
      });
      [status, text] = [answer.status, await answer.text()];
    } catch (error) {
      if ((error as Error).name === "TimeoutError") {
        throw new DeadlineExceededError(`${this.server}: no answer in time. Raise timeout, or send fewer examples.`, { cause: error });
      }
      throw new ServerUnavailableError(
        `${this.server}: ${(error as Error).message}. Check the address, that the server is up, and that it allows this page's origin `
        + "(`privpart-keras serve --cors`, or a proxy).", { cause: error });
    }
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch (error) {
      if (status === 200) throw new ServerFailedError(`${this.server}: the answer is no JSON.`, { cause: error });
      body = text.slice(0, 200);
    }
    if (status !== 200) {
      const said = (body as { error?: string } | null)?.error ?? String(body);
      const other = status >= 500 && status !== 501 ? ServerFailedError : RequestRefusedError;
      throw new (said.includes(BUSY) ? ServerBusyError : STATUS[status] ?? other)(`${this.server}: HTTP ${status}: ${said}`);
    }
    return body;
  }
}

function serverOf(options: ClientOptions): string {
  const timeout = options.timeout ?? 1;
  if (!(timeout > 0)) throw new ServingError(`Received timeout=${timeout}; expected milliseconds above 0.`);
  const url = URL.canParse(options.server) ? new URL(options.server) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw new ServingError(`Received the server ${options.server}; expected an address such as "http://localhost:8501".`);
  }
  if (options.token !== undefined && url.protocol !== "https:") {
    throw new ServingError(`Received a token for ${url.origin}; expected an https address: others could read the token.`);
  }
  return url.href.replace(/\/+$/, "");
}

async function fetchBytes(url: URL): Promise<Uint8Array> {
  let answer: Response;
  try {
    answer = await fetch(url, { credentials: "same-origin", cache: "no-cache" }); // asks whether its copy is still the newest
  } catch (error) {
    throw new BundleError(`Can't fetch ${url.href}: ${(error as Error).message}.`, { cause: error });
  }
  if (!answer.ok) throw new BundleError(`Can't fetch ${url.href}: HTTP ${answer.status}. Publish the whole folder web/ of the bundle.`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function checkHash(bytes: Uint8Array, want: string, file: string): Promise<void> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new IntegrityError(`Can't verify ${file}: browsers hash only for pages from https or localhost. Serve the page so.`);
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
  const got = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (got !== want) throw new IntegrityError(`${file} differs from what was exported (SHA-256 ${got}; expected ${want}). Publish the bundle again.`);
}

function readManifest(raw: Uint8Array): Manifest {
  let found: Partial<Manifest> | null;
  try {
    found = JSON.parse(new TextDecoder().decode(raw));
  } catch (error) {
    throw new ContractError("manifest.json is no JSON. Publish the bundle again.", { cause: error });
  }
  if (found?.schema !== SCHEMA) {
    throw new ContractError(`manifest.json has schema ${found?.schema}; this module reads ${SCHEMA}. Use the module that was exported beside it.`);
  }
  const lists = [found.inputs, found.boundary, found.outputs];
  const texts = [found.name, found.fingerprint, found.model?.file, found.model?.sha256];
  const whole = [found.version, found.max_batch_size].every((one) => Number.isInteger(one) && one! > 0);
  if (!whole || texts.some((one) => typeof one !== "string" || !one) || lists.some((one) => !Array.isArray(one) || !one.length)) {
    throw new ContractError("manifest.json lacks fields, or they are no such thing. Publish the bundle again.");
  }
  return found as Manifest;
}

const loading = new WeakMap<LiteRt, Promise<unknown>>();

async function runtimeOf(options: ClientOptions, beside: URL): Promise<LiteRt> {
  try {
    const litert: LiteRt = options.runtime ?? await import(new URL("index.js", beside).href);
    const folder = new URL(options.wasm ?? beside, globalThis.location?.href).href;
    // One of each realm: it refuses to be loaded twice.
    const loaded = litert.getGlobalLiteRtPromise() ?? loading.get(litert) ?? litert.loadLiteRt(folder);
    loading.set(litert, loaded);
    await loaded;
    return litert;
  } catch (error) {
    throw new BundleError(
      `Can't load LiteRT.js: ${error}. Export with --with-runtime, or pass runtime= and wasm= of @litertjs/core; a CSP must allow `
      + "'wasm-unsafe-eval'.", { cause: error });
  }
}

function checkDetails(what: string, specs: readonly TensorSpec[], details: readonly LiteRtDetails[]): void {
  const text = (list: readonly { name: string; dtype: string; shape: ArrayLike<number | null> }[], batch: number[]) =>
    JSON.stringify(list.map(({ name, dtype, shape }) => `${name}: ${dtype}[${[...batch, ...Array.from(shape)]}]`).sort());
  const got = text(details, []), want = text(specs, [1]);
  if (got !== want) throw new IntegrityError(`The device half has the ${what} tensors ${got}; the manifest declares ${want}. Publish the bundle again.`);
}

function sizeOf(spec: TensorSpec): number {
  return spec.shape.reduce((size: number, dim) => size * dim!, 1);
}

/** Examples of a user's input, each with every input of the model in the dtype that it wants. */
function sliced(x: Input | Readonly<Record<string, Input>>, specs: readonly TensorSpec[]): Record<string, Values>[] {
  const plain = Array.isArray(x) || ArrayBuffer.isView(x);
  const named: Readonly<Record<string, Input>> = plain ? { [specs[0]!.name]: x as Input } : x as Readonly<Record<string, Input>>;
  const want = specs.map(({ name }) => name).sort().join(", "), got = Object.keys(named).sort().join(", ");
  if (got !== want) throw new ArgumentError(`Received inputs by the names ${got}; expected ${want}. Nothing was sent.`);
  const counts = specs.map((spec) => named[spec.name]!.length / sizeOf(spec));
  const count = counts[0]!;
  if (!Number.isInteger(count) || count < 1 || counts.some((other) => other !== count)) {
    const lengths = specs.map(({ name }) => `${name}: ${named[name]!.length}`).join(", ");
    const sizes = specs.map((spec) => `${spec.name}: ${sizeOf(spec)}`).join(", ");
    throw new ArgumentError(`Received so many values: ${lengths}; expected the same multiple of ${sizes}. Nothing was sent.`);
  }
  return Array.from({ length: count }, (_, i) => Object.fromEntries(specs.map((spec) => {
    const size = sizeOf(spec), part = named[spec.name]!.slice(i * size, (i + 1) * size);
    return [spec.name, converted(spec, part)];
  })));
}

function converted(spec: TensorSpec, values: Input): Values {
  const array = ARRAYS[spec.dtype as keyof typeof ARRAYS].from(values as ArrayLike<number>);
  const kept = spec.dtype === "float32" ? array.every(Number.isFinite) : array.every((value, i) => value === values[i]);
  if (!kept) throw new ArgumentError(`Received values for ${spec.name} that ${spec.dtype} cannot hold. Nothing was sent.`);
  return array;
}

function checkBoundary(specs: readonly TensorSpec[], boundary: Readonly<Record<string, Values>>): void {
  const got = Object.keys(boundary).sort().join(", "), want = specs.map(({ name }) => name).sort().join(", ");
  if (got !== want) throw new BoundaryMismatchError(`Received the tensors ${got}; the contract declares ${want}. Nothing was sent.`);
  for (const spec of specs) {
    const array = boundary[spec.name];
    if (!(array instanceof ARRAYS[spec.dtype as keyof typeof ARRAYS]) || array.length !== sizeOf(spec)) {
      throw new BoundaryMismatchError(
        `Received '${spec.name}' as ${array?.constructor.name}[${array?.length}]; the contract declares ${spec.dtype}[${spec.shape}]. Nothing was sent.`);
    }
  }
}

function base64(values: Values): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength); // little-endian on every machine that runs a browser
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function readAnswer(manifest: Manifest, body: unknown, count: number): Record<string, Answer> {
  const outputs = ((body as { outputs?: unknown }).outputs ?? {}) as Record<string, unknown>;
  const names = manifest.outputs.map(({ name }) => name), want = [...names, "pair_fingerprint"].sort().join(", ");
  const got = Object.keys(outputs).sort().join(", ");
  if (got !== want) throw new ServerFailedError(`The server answered ${got}; expected ${want}.`);
  const pairs = outputs["pair_fingerprint"];
  if (!Array.isArray(pairs) || pairs.length !== count || pairs.some((one) => one !== manifest.fingerprint)) {
    throw new PairMismatchError(
      `An answer for version ${manifest.version} of '${manifest.name}' came from another pair than the server named before; the answer was `
      + "discarded. Serve one bundle at this address, and start again.");
  }
  return Object.fromEntries(manifest.outputs.map((spec) => [spec.name, flattened(spec, outputs[spec.name], count)]));
}

function flattened(spec: TensorSpec, nested: unknown, count: number): Answer {
  const shape: number[] = [];
  for (let part = nested; Array.isArray(part); part = part[0]) shape.push(part.length);
  const data = [nested].flat(shape.length) as (number | string | boolean)[];
  const fits = shape.length === spec.shape.length + 1 && [count, ...spec.shape].every((dim, i) => dim === null || dim === shape[i]);
  if (!fits || data.length !== shape.reduce((a, b) => a * b, 1) || data.some(Array.isArray)) {
    throw new ServerFailedError(`The server answered '${spec.name}' as [${shape}] to ${count} examples; the contract declares [${[count, ...spec.shape]}].`);
  }
  return { data, shape };
}

function joined(answers: readonly Record<string, Answer>[]): Record<string, Answer> {
  return Object.fromEntries(Object.entries(answers[0]!).map(([name, first]) => {
    const parts = answers.map((answer) => answer[name]!);
    return [name, { data: parts.flatMap((part) => part.data), shape: [parts.reduce((sum, part) => sum + part.shape[0]!, 0), ...first.shape.slice(1)] }];
  }));
}
