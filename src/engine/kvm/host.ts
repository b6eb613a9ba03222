/**
 * Calls to the host that say, when they fail, which call it was, what the host answered, and what to do about it.
 */
import { EACCES, ENOENT, ENXIO, EPERM, errnoName, errnoOf, type Libc, openLibc } from "../../../ffi/libc.ts";
import { HostError, messageOf } from "../../base/errors.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

export class Host {
  readonly libc: Libc;

  constructor() {
    try {
      this.libc = openLibc();
    } catch (error) {
      const why = error instanceof Deno.errors.NotCapable ? "run again with --allow-ffi" : messageOf(error);
      throw new HostError(`Cannot call the host's C library: ${why}`, { cause: error });
    }
  }

  /** errno of the call that has just failed. */
  get errno(): number {
    return errnoOf(this.libc);
  }

  open(path: string, flags: number): number {
    const fd = this.libc.open(new TextEncoder().encode(`${path}\0`), flags);
    if (fd >= 0) return fd;
    const errno = this.errno;
    const advice = errno === ENOENT || errno === ENXIO
      ? "this host has none (is its module loaded, virtualization switched on?)"
      : errno === EACCES || errno === EPERM
      ? "this user may not (join the group that owns it)"
      : "";
    throw new HostError(`Cannot open ${path}: ${errnoName(errno)}${advice === "" ? "" : `, ${advice}`}`);
  }

  close(fd: number): void {
    this.libc.close(fd);
  }

  /** ioctl(2) with a number. Answers what the request answers; -1 for a refusal. */
  tryIoctl(fd: number, request: number, value = 0): number {
    return this.libc.ioctl(fd, request, BigInt(value));
  }

  /** ioctl(2) with a structure; -1 for a refusal. */
  tryIoctlWith(fd: number, request: number, buffer: Bytes | null): number {
    return this.libc.ioctl_buffer(fd, request, buffer);
  }

  /** The same for requests that must succeed; `name` is the request's. */
  ioctl(name: string, fd: number, request: number, value = 0): number {
    const answer = this.libc.ioctl(fd, request, BigInt(value));
    if (answer < 0) throw this.refusal(name);
    return answer;
  }

  ioctlWith(name: string, fd: number, request: number, buffer: Bytes): number {
    const answer = this.libc.ioctl_buffer(fd, request, buffer);
    if (answer < 0) throw this.refusal(name);
    return answer;
  }

  refusal(name: string): HostError {
    return new HostError(`${name} failed: ${errnoName(this.errno)}`);
  }
}
