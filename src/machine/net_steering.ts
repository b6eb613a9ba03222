/** Which pair of queues a frame for the guest goes to: that by which the guest last sent frames of the same flow [virtio §5.1.6.5.6]. */

const FLOWS = 256;
const IPV4 = 0x0800, IPV6 = 0x86dd, VLAN_BYTES = 4, VLAN = 0x8100;
const TCP = 6, UDP = 17;

export class Steering {
  readonly #pairs = new Uint8Array(FLOWS);

  /** The guest has sent a frame by queue pair `pair`. */
  sent(frame: Uint8Array, pair: number): void {
    this.#pairs[flowOf(frame)] = pair;
  }

  pairOf(frame: Uint8Array, pairs: number): number {
    const pair = this.#pairs[flowOf(frame)]!;
    return pair < pairs ? pair : 0;
  }
}

/** The same number for both directions of a flow. */
function flowOf(frame: Uint8Array): number {
  let at = 14, type = (frame[12]! << 8) | frame[13]!;
  if (type === VLAN) {
    type = (frame[16]! << 8) | frame[17]!;
    at += VLAN_BYTES;
  }
  let hash = 0, protocol = -1, ports = at;
  if (type === IPV4) {
    protocol = frame[at + 9]!;
    ports = at + 4 * (frame[at]! & 15);
    for (let i = at + 12; i < at + 20; i++) hash ^= frame[i]!;
  } else if (type === IPV6) {
    protocol = frame[at + 6]!;
    ports = at + 40;
    for (let i = at + 8; i < at + 40; i++) hash ^= frame[i]!;
  }
  if (protocol !== TCP && protocol !== UDP) return hash & (FLOWS - 1);
  const high = frame[ports]! ^ frame[ports + 2]!, low = frame[ports + 1]! ^ frame[ports + 3]!;
  return (hash ^ low ^ (high * 5)) & (FLOWS - 1);
}
