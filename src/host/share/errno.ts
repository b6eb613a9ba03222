/** Refusals in the numbers of Linux, which 9P2000.L has on the wire whatever the host is. */
const CODES: Readonly<Record<string, number>> = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EOVERFLOW: 75,
  EILSEQ: 84,
  EMSGSIZE: 90,
  ENOTSUP: 95,
  EOPNOTSUPP: 95,
  ESTALE: 116,
  EDQUOT: 122,
  ERR_OUT_OF_RANGE: 22,
};

/** What a guest's request is refused with. */
export class Refusal extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

/** The number for whatever was thrown on a guest's behalf. */
export function errnoOf(error: unknown): number {
  if (error instanceof Deno.errors.NotCapable) return CODES.EACCES!;
  const code = (error as { code?: unknown } | null)?.code;
  return (typeof code === "string" ? CODES[code] : undefined) ?? CODES.EIO!;
}
