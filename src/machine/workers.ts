/** The main thread's ends of the machine's Workers. */
import { HostError } from "../base/errors.ts";
import type { InitialState, SharedCompiler, VcpuStats } from "../engine/engine.ts";
import type { SavedShare } from "../host/share/saved.ts";
import type { PcOptions } from "./pc.ts";
import type { PublishSpec } from "./spec.ts";
import type { FromVcpu, ToVcpu } from "./vcpu_service.ts";

/** How a Worker's part in the machine ended. */
export interface WorkerEnd {
  /** What the guest died of there, or null. */
  readonly died: string | null;
  /** Where the guest was. */
  readonly where: string;
  /** What went wrong with the Worker itself, or null. */
  readonly failed: string | null;
}

/** A promise and its two ends. */
class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (error: Error) => void;
  readonly promise: Promise<T>;
  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Whoever awaits it later still sees the rejection.
    this.promise.catch(() => {});
  }
}

function failure(message: string): WorkerEnd {
  return { died: null, where: "", failed: message };
}

/** Calls `failed` for whatever a Worker does not catch itself. */
function onWorkerError(worker: Worker, failed: (message: string) => void): void {
  worker.onerror = (e) => {
    e.preventDefault();
    failed(e.message);
  };
  worker.onmessageerror = () => failed("A message could not be read");
}

export class VcpuWorker {
  stats: VcpuStats = {};
  /** Whether the engine can save and restore it; known once it is ready. */
  saves = false;
  /** What its engine has made anew and would like to have next time; known once it is ready. */
  image: Uint8Array<ArrayBuffer> | null = null;
  readonly #worker: Worker;
  #ready = new Deferred<void>();
  #left = new Deferred<WorkerEnd>();

  constructor(module: URL, private readonly index: number, onTrouble: (sentence: string) => void) {
    this.#worker = new Worker(module, { type: "module", name: `vcpu ${index}` });
    onWorkerError(this.#worker, (message) => this.#failed(message));
    this.#worker.onmessage = ({ data }: MessageEvent<FromVcpu>) => {
      switch (data.kind) {
        case "ready":
          this.saves = data.saves;
          this.image = data.image;
          return this.#ready.resolve();
        case "left":
          this.stats = data.stats;
          return this.#left.resolve({ died: data.died, where: data.where, failed: null });
        case "trouble":
          return onTrouble(data.sentence);
        case "failed":
          return this.#failed(data.message);
      }
    };
  }

  /** Resolves once the vCPU could run. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** `image`: of its engine, `compiler`: a way to one that is the machine's, if there is one. */
  open(pc: PcOptions, image: Uint8Array<ArrayBuffer> | null, compiler: SharedCompiler | null): void {
    this.#post({ kind: "open", pc, index: this.index, image, compiler }, compiler ? [compiler.port] : []);
  }

  /** Lets it become what its record says; rejects if the engine refuses. */
  restore(): Promise<void> {
    this.#ready = new Deferred();
    this.#post({ kind: "restore" });
    return this.#ready.promise;
  }

  /** Lets the vCPU run; resolves once it has left. */
  run(state: InitialState | null | "restored"): Promise<WorkerEnd> {
    this.#left = new Deferred();
    this.#post({ kind: "run", state });
    return this.#left.promise;
  }

  terminate(): void {
    this.#worker.terminate();
  }

  #post(message: ToVcpu, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #failed(message: string): void {
    const text = `vCPU ${this.index} failed: ${message}`;
    this.#ready.reject(new HostError(text));
    this.#left.resolve(failure(text));
  }
}

/** What a back end's Worker is told, once, and what it tells. From then on shared words steer it. */
export type ToBackEnd = PcOptions & {
  /** For the Worker of shared folders of a machine that is resumed. */
  readonly savedShares?: readonly SavedShare[];
};

/** Later messages, for the network's Worker alone: ports of the host's that lead to the guest, and the guest's cable. */
export type PublishRequest =
  | { readonly action: "list" }
  | { readonly action: "add" | "remove"; readonly port: PublishSpec };
export type NetRequest = PublishRequest | { readonly action: "link"; readonly up?: boolean };
export interface ToNetWorker {
  readonly id: number;
  readonly request: NetRequest;
}
export interface NetAnswer {
  readonly published: readonly PublishSpec[];
  /** Whether the guest sees its cable in. */
  readonly linkUp: boolean;
}

export type FromBackEnd =
  | { readonly kind: "answer"; readonly id: number; readonly answer: NetAnswer; readonly error: string | null }
  /** What a snapshot has to keep, or why it cannot. */
  | { readonly kind: "state"; readonly shares: readonly SavedShare[]; readonly error: string | null }
  | { readonly kind: "ready" }
  | { readonly kind: "trouble"; readonly sentence: string }
  | { readonly kind: "closed" }
  | { readonly kind: "failed"; readonly message: string };

export interface BackEnd {
  /** The Worker's name. */
  readonly name: string;
  readonly module: URL;
  /** What error messages call it. */
  readonly title: string;
  /** Sets the word that ends it. */
  readonly quit: () => void;
}

/** A Worker that owns files or sockets. */
export class BackEndWorker {
  readonly #worker: Worker;
  readonly #ready = new Deferred<void>();
  readonly #failure = new Deferred<WorkerEnd>();
  readonly #closed = new Deferred<void>();
  readonly #asked = new Map<number, Deferred<NetAnswer>>();
  #lastId = 0;
  #state = new Deferred<readonly SavedShare[]>();

  constructor(pc: ToBackEnd, private readonly backEnd: BackEnd, onTrouble: (sentence: string) => void) {
    this.#worker = new Worker(backEnd.module, { type: "module", name: backEnd.name });
    onWorkerError(this.#worker, (message) => this.#failed(message));
    this.#worker.onmessage = ({ data }: MessageEvent<FromBackEnd>) => {
      switch (data.kind) {
        case "ready":
          return this.#ready.resolve();
        case "answer": {
          const asked = this.#asked.get(data.id);
          this.#asked.delete(data.id);
          return data.error === null ? asked?.resolve(data.answer) : asked?.reject(new HostError(data.error));
        }
        case "state":
          return data.error === null ? this.#state.resolve(data.shares) : this.#state.reject(new HostError(data.error));
        case "trouble":
          return onTrouble(data.sentence);
        case "closed":
          return this.#closed.resolve();
        case "failed":
          return this.#failed(data.message);
      }
    };
    this.#worker.postMessage(pc);
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Resolves if the Worker fails. */
  get failed(): Promise<WorkerEnd> {
    return this.#failure.promise;
  }

  /** Asks the network's Worker; resolves with how it stands then. Rejects with HostError. */
  askNet(request: NetRequest): Promise<NetAnswer> {
    const id = ++this.#lastId, asked = new Deferred<NetAnswer>();
    this.#asked.set(id, asked);
    const message: ToNetWorker = { id, request };
    this.#worker.postMessage(message);
    return asked.promise;
  }

  /** What a snapshot has to keep of the Worker of shared folders; `ask` has it asked. Rejects with HostError. */
  state(ask: () => void): Promise<readonly SavedShare[]> {
    this.#state = new Deferred();
    ask();
    const failed = this.#failure.promise.then(({ failed }) => {
      throw new HostError(failed ?? "");
    });
    return Promise.race([this.#state.promise, failed]);
  }

  /** Completes what is queued, and lets go of the host's things. */
  close(): Promise<void> {
    this.backEnd.quit();
    return this.#closed.promise;
  }

  terminate(): void {
    // It may sleep where the Worker's end does not reach.
    this.backEnd.quit();
    this.#worker.terminate();
  }

  #failed(message: string): void {
    const text = `${this.backEnd.title} failed: ${message}`;
    this.#ready.reject(new HostError(text));
    this.#failure.resolve(failure(text));
    for (const asked of this.#asked.values()) asked.reject(new HostError(text));
    this.#closed.resolve();
  }
}

/** What `promise` resolves to, or null if that takes longer than `ms`. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
