/** Sets bits of a vCPU's event word from another thread, after a while. */
export interface KickOrder {
  readonly events: Int32Array;
  readonly bits: number;
  readonly afterMs: number;
}

(self as unknown as { onmessage: (e: MessageEvent<KickOrder>) => void }).onmessage = ({ data }) => {
  setTimeout(() => {
    Atomics.or(data.events, 0, data.bits);
    Atomics.notify(data.events, 0);
  }, data.afterMs);
};
