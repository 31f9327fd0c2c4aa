/*!
 * Part of keras_privpart, Apache-2.0. Made from privpart.ts by `npm run build`.
 */
/**
 * The device half of a bundle in a browser: runs it with LiteRT.js, sends the boundary and nothing else, and returns the server half's answer.
 *
 * It fails closed, with the error names of the Python client: the half's SHA-256 is compared before it is compiled, the server is asked for
 * its pair before it is sent anything, every answer must name that pair, and no tensor leaves that the manifest does not declare.
 */
export declare class PrivPartError extends Error {
    readonly name: string;
}
export declare class ContractError extends PrivPartError {
    readonly name: string;
}
export declare class BundleError extends PrivPartError {
    readonly name: string;
}
export declare class IntegrityError extends BundleError {
    readonly name: string;
}
export declare class ServingError extends PrivPartError {
    readonly name: string;
}
export declare class ArgumentError extends ServingError {
    readonly name: string;
}
export declare class BoundaryMismatchError extends ServingError {
    readonly name: string;
}
export declare class PairMismatchError extends ServingError {
    readonly name: string;
}
export declare class ServerUnavailableError extends ServingError {
    readonly name: string;
}
export declare class DeadlineExceededError extends ServingError {
    readonly name: string;
}
export declare class ServerNotFoundError extends ServingError {
    readonly name: string;
}
export declare class RequestRefusedError extends ServingError {
    readonly name: string;
}
export declare class PermissionRefusedError extends ServingError {
    readonly name: string;
}
export declare class ServerOverloadedError extends ServingError {
    readonly name: string;
}
export declare class ServerBusyError extends ServerOverloadedError {
    readonly name: string;
}
export declare class ServerFailedError extends ServingError {
    readonly name: string;
}
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
    readonly model: {
        readonly file: string;
        readonly sha256: string;
        readonly bytes: number;
    };
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
interface LiteRtTensor {
    readonly type: {
        readonly dtype: string;
    };
    toTypedArray(): Values;
    delete(): void;
}
interface LiteRtDetails {
    readonly name: string;
    readonly dtype: string;
    readonly shape: ArrayLike<number>;
}
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
    loadAndCompile(model: Uint8Array, options: {
        accelerator: "wasm";
    }): Promise<LiteRtModel>;
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
/**
 * A bundle's device half, and the way to its server half.
 *
 * @example
 * const client = await Client.load({ server: "http://localhost:8501" });
 * const { scores } = await client.predict(pixels);
 */
export declare class Client {
    readonly manifest: Manifest;
    private readonly litert;
    private readonly model;
    private readonly server;
    private readonly timeout;
    private readonly headers;
    /** Whether nothing has failed since the server showed its pair. */
    private paired;
    private closed;
    private constructor();
    /**
     * Fetches, verifies and compiles the device half. The server is not asked yet.
     *
     * @throws ContractError, IntegrityError: the files are not what they should be.
     * @throws BundleError: LiteRT.js is missing, or cannot load the half.
     * @throws ServingError: an argument is wrong.
     */
    static load(options: ClientOptions): Promise<Client>;
    /**
     * Runs the device half here, sends the boundary, and returns the server half's answer.
     *
     * @param x values of one example or of several: an array where the model has one input, else one array an input, by name.
     * @returns the outputs by name.
     */
    predict(x: Input | Readonly<Record<string, Input>>): Promise<Record<string, Answer>>;
    /** Runs the device half here, and sends nothing: the boundary by name, one array an example. */
    encode(x: Input | Readonly<Record<string, Input>>): Promise<Record<string, Values>[]>;
    /** Sends given boundaries, one an example, and returns the answers. The only place where tensors leave. */
    score(boundaries: readonly Readonly<Record<string, Values>>[]): Promise<Record<string, Answer>>;
    /** Asks the server for its pair, as the first request would. */
    confirmPair(): Promise<void>;
    /** Frees the device half. */
    close(): void;
    private checkOpen;
    private run;
    private send;
    private askForPair;
    private mismatch;
    /** Says what a server has instead of the version that it was asked for, if it says so itself. */
    private explained;
    private post;
    private ask;
}
export {};
