/** Sockets for echo requests, which some hosts give to everybody: Linux by net.ipv4.ping_group_range, macOS always. */
import {
  addressIn,
  AF_INET,
  AF_INET6,
  errnoOf,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  openSocketLibc,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  sockaddrIn,
} from "../../../ffi/socket.ts";
import { checksum, formatIp4, formatIp6, ip6, parseIp4, parseIp6, put16, put32, putIp6, u32 } from "./address.ts";
import { Descriptor } from "./descriptor.ts";
import type { HostDatagrams } from "./host_sockets.ts";

const MAX_BYTES = 65536;
const MAX_AT_ONCE = 32;
const IP_BYTES = 20;

/** Null if the host has none for who has no privileges. */
export function openEchoes(
  family: 4 | 6,
  received: (message: Uint8Array, address: string) => void,
): HostDatagrams | null {
  const libc = openSocketLibc();
  const six = family === 6;
  const fd = libc.socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, six ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
  if (fd < 0) {
    errnoOf(libc); // whatever it is: there is no such socket here
    return null;
  }
  // SAFETY: each is used within one call only.
  const bytes = new Uint8Array(MAX_BYTES), from = new Uint8Array(28), fromBytes = new Uint32Array(1);
  const descriptor = new Descriptor(libc, fd, () => {
    for (let i = 0; i < MAX_AT_ONCE; i++) {
      fromBytes[0] = from.length;
      const n = Number(libc.recvfrom(fd, bytes, BigInt(bytes.length), MSG_DONTWAIT, from, fromBytes));
      if (n <= 0) return;
      const address = addressIn(from);
      // macOS gives the IP header, too.
      const skip = !six && n > IP_BYTES && bytes[0]! >> 4 === 4 ? (bytes[0]! & 15) * 4 : 0;
      received(bytes.subarray(skip, n), six ? formatIp6(ip6(address, 0)) : formatIp4(u32(address, 0)));
    }
  });
  return {
    send(message, to) {
      if (descriptor.closed) return;
      const address = new Uint8Array(six ? 16 : 4);
      if (six) putIp6(address, 0, parseIp6(to)!);
      else {
        put32(address, 0, parseIp4(to)!);
        put16(message, 2, 0);
        put16(message, 2, checksum(message, 0, message.length)); // Linux computes it itself, macOS does not
      }
      const sockaddr = sockaddrIn(address);
      const copy = new Uint8Array(message);
      libc.sendto(fd, copy, BigInt(copy.length), MSG_DONTWAIT | MSG_NOSIGNAL, sockaddr, sockaddr.length);
    },
    close: () => descriptor.close(),
  };
}
