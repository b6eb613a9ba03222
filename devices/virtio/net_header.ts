/** The header before each frame of a virtio network device. Spec: [virtio §5.1.6]. */

export const NET_HEADER_BYTES = 12;
export const NET_HDR_F = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;
export const NET_HDR_GSO = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** What one side leaves to the other in a frame. */
export interface FrameOffload {
  /**
   * Where the checksummed part starts, and where in it the checksum is; -1 if the checksum in the frame is complete. An
   * incomplete one holds the sum of the pseudo-header.
   */
  csumStart: number;
  csumOffset: number;
  /** The payload of each TCP segment or UDP datagram this frame is to be cut into; 0 if it is one. */
  gsoSize: number;
  /** Out of NET_HDR_GSO: what the frame is to be cut into. */
  gsoType: number;
  /** Ethernet, IP and TCP or UDP headers; for frames with a gsoSize. */
  headerBytes: number;
}

export const NO_OFFLOAD: Readonly<FrameOffload> = {
  csumStart: -1,
  csumOffset: 0,
  gsoSize: 0,
  gsoType: 0,
  headerBytes: 0,
};

/** Reads the header a driver wrote; false if it asks for something that was not offered. */
export function parseNetHeader(bytes: Uint8Array, frameBytes: number, into: FrameOffload): boolean {
  const u16 = (at: number) => bytes[at]! | (bytes[at + 1]! << 8);
  const needs = (bytes[0]! & NET_HDR_F.NEEDS_CSUM) !== 0;
  into.csumStart = needs ? u16(6) : -1;
  into.csumOffset = needs ? u16(8) : 0;
  if (needs && into.csumStart + into.csumOffset + 2 > frameBytes) return false;
  const type = bytes[1]! & ~NET_HDR_GSO.ECN;
  into.gsoSize = type === NET_HDR_GSO.NONE ? 0 : u16(4);
  into.gsoType = type;
  into.headerBytes = u16(2);
  if (type === NET_HDR_GSO.NONE) return true;
  if (type !== NET_HDR_GSO.TCPV4 && type !== NET_HDR_GSO.TCPV6 && type !== NET_HDR_GSO.UDP_L4) return false;
  return needs && into.gsoSize > 0;
}

/** Writes the header of a frame for the driver; the number of buffers is 1. */
export function writeNetHeader(offload: Readonly<FrameOffload>, into: Uint8Array): void {
  const needs = offload.csumStart >= 0;
  const gso = offload.gsoSize > 0;
  into[0] = needs ? NET_HDR_F.NEEDS_CSUM : 0;
  into[1] = gso ? offload.gsoType : NET_HDR_GSO.NONE;
  const put = (at: number, value: number) => {
    into[at] = value;
    into[at + 1] = value >> 8;
  };
  put(2, gso ? offload.headerBytes : 0);
  put(4, offload.gsoSize);
  put(6, needs ? offload.csumStart : 0);
  put(8, offload.csumOffset);
  put(10, 1);
}
