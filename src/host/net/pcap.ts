/** Every frame into a file that tcpdump and Wireshark read: the classic format, [pcap §4] and §5, in microseconds. */
import { ConfigError, HostError, messageOf } from "../../base/errors.ts";

const MAGIC = 0xa1b2c3d4;
const LINKTYPE_ETHERNET = 1;
const SNAP_BYTES = 262_144; // more than any frame
const RECORD_HEADER_BYTES = 16;

export class PcapFile {
  readonly #record = new Uint8Array(RECORD_HEADER_BYTES + SNAP_BYTES);
  readonly #view = new DataView(this.#record.buffer);

  private constructor(private readonly file: Deno.FsFile, private readonly path: string) {}

  /** Empties the file, or makes it. */
  static open(path: string): PcapFile {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path, { write: true, create: true, truncate: true });
    } catch (error) {
      throw new ConfigError(`Cannot write --net pcap file "${path}": ${messageOf(error)}`, { cause: error });
    }
    const pcap = new PcapFile(file, path);
    const header = new DataView(new ArrayBuffer(24));
    header.setUint32(0, MAGIC, true);
    header.setUint16(4, 2, true);
    header.setUint16(6, 4, true);
    header.setUint32(16, SNAP_BYTES, true);
    header.setUint32(20, LINKTYPE_ETHERNET, true);
    pcap.#write(new Uint8Array(header.buffer));
    return pcap;
  }

  /** `wallMs` is the time of day, in milliseconds since 1970. Throws HostError if the host takes no more. */
  add(frame: Uint8Array, wallMs: number): void {
    const v = this.#view, size = Math.min(frame.length, SNAP_BYTES);
    const seconds = Math.floor(wallMs / 1000);
    v.setUint32(0, seconds, true);
    v.setUint32(4, Math.floor((wallMs - seconds * 1000) * 1000), true);
    v.setUint32(8, size, true);
    v.setUint32(12, frame.length, true);
    this.#record.set(frame.subarray(0, size), RECORD_HEADER_BYTES);
    this.#write(this.#record.subarray(0, RECORD_HEADER_BYTES + size));
  }

  #write(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length;) at += this.file.writeSync(bytes.subarray(at));
    } catch (error) {
      throw new HostError(`Cannot write --net pcap file "${this.path}": ${messageOf(error)}`, { cause: error });
    }
  }

  close(): void {
    this.file.close();
  }
}
