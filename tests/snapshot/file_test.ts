import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { HostError, RestoreError } from "../../src/base/errors.ts";
import { crc32 } from "../../src/boot/decompress/checksum.ts";
import { ADDRESS } from "../../src/machine/addresses.ts";
import { Snapshot } from "../../src/machine/snapshot.ts";
import { MAX_SECTION_BYTES, SnapshotReader, SnapshotWriter } from "../../src/machine/snapshot_file.ts";
import { Random } from "../diff/random.ts";
import { inFolder, RAM_BYTES, SMALL, smallPc, usedPc, write } from "./fixture.ts";

/** What the format's page says, with a CRC of another make. */
function expected(sections: readonly [string, Uint8Array][]): Uint8Array {
  const out: number[] = [];
  const u32 = (v: number) => [v & 255, (v >>> 8) & 255, (v >>> 16) & 255, v >>> 24];
  const head = [...new TextEncoder().encode("trikesnp"), ...u32(1)];
  out.push(...head, ...u32(crc32(Uint8Array.from(head))));
  for (const [i, [name, bytes]] of sections.entries()) {
    const padded = name.padEnd(16, "\0");
    const header = [
      ...new TextEncoder().encode(padded),
      ...u32(i),
      ...u32(0),
      ...u32(bytes.length),
      ...u32(bytes.length),
      ...u32(crc32(bytes)),
    ];
    out.push(...header, ...u32(crc32(Uint8Array.from(header))), ...bytes);
  }
  return Uint8Array.from(out);
}

function headerCrc(name: string, number: number, bytes: Uint8Array): number[] {
  const [last] = [expected([...Array(number).fill(["x", new Uint8Array(0)] as const), [name, bytes]])];
  const at = last!.length - bytes.length - 4;
  return Array.from(last!.subarray(at, at + 4));
}

Deno.test("the file is, byte for byte, what the format's page says", () => {
  inFolder((folder) => {
    const path = `${folder}/s`, a = Uint8Array.of(1, 2, 3), b = new Uint8Array(0);
    const writer = new SnapshotWriter(path, false);
    writer.section("one", a);
    writer.section("two", b);
    writer.finish();
    const table = Uint8Array.from([...headerCrc("one", 0, a), ...headerCrc("two", 1, b)]);
    assertEquals(Deno.readFileSync(path), expected([["one", a], ["two", b], ["end", table]]));
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  });
});

Deno.test("what was written is read; packed sections are smaller and the same", () => {
  inFolder((folder) => {
    const path = `${folder}/s`, text = new Uint8Array(100_000).fill(7), noise = new Uint8Array(5000);
    const random = new Random(1);
    for (let i = 0; i < noise.length; i++) noise[i] = random.next();
    for (const compress of [false, true]) {
      const writer = new SnapshotWriter(path, compress);
      writer.section("text", text);
      writer.section("noise", noise);
      writer.finish();
      assertEquals(Deno.statSync(path).size < 10_000, compress);
      const reader = new SnapshotReader(path);
      reader.expect("text");
      assertEquals(reader.contents(), text);
      reader.expect("noise");
      assertEquals(reader.contents(), noise);
      assertEquals(reader.next(), null);
      reader.close();
    }
  });
});

Deno.test("a file that is not finished leaves the one of that name, and nothing else", () => {
  inFolder((folder) => {
    const path = `${folder}/s`;
    Deno.writeTextFileSync(path, "older");
    const writer = new SnapshotWriter(path, false);
    writer.section("one", new Uint8Array(1000));
    writer.abandon();
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["s"]);
    assertEquals(Deno.readTextFileSync(path), "older");
    assertThrows(() => new SnapshotWriter(`${folder}/none/s`, false), HostError, "none/s");
  });
});

Deno.test("a machine goes into a file and out of it, with its devices, RAM, time and input", () => {
  inFolder((folder) => {
    for (const compress of [false, true]) {
      const path = `${folder}/s`, a = usedPc(), b = smallPc();
      write(path, a, compress);
      const snapshot = new Snapshot(path);
      snapshot.load(b);
      snapshot.close();
      assertEquals(b.clock.nowNs(), 123_456_789);
      // The UART has taken from its ring what it has room for, the time of day is now, and the generation is another.
      const but = ["com1", "rtc", "interrupt-router", "timer:com1", "timer:rtc", "vm-generation"];
      const guid = (pc: typeof a) => pc.mmio.read(ADDRESS.VM_GENERATION, 4);
      assertNotEquals(guid(b), guid(a));
      const of = (pc: typeof a) =>
        pc.arena.save().filter(({ id }) => !but.includes(id)).map(({ id, bytes }) => [id, bytes.toHex()]);
      assertEquals(of(b), of(a));
      assertEquals(b.ram.bytes(0, RAM_BYTES)!.slice(), a.ram.bytes(0, RAM_BYTES)!.slice());
      b.ports.write(0x40, 1, 0x2e); // the other half of the count
      b.ports.write(0x3fb, 1, 3);
      assertEquals(b.ports.read(0x3fd, 1) & 1, 1); // LSR.DR
      assertEquals(Array.from("typed", () => String.fromCharCode(b.ports.read(0x3f8, 1))).join(""), "typed");
      assertEquals(b.vcpuRecords[1]!.gpr[0], 0x55aa);
    }
  });
});

/** Loads what is at `path`; the message if that was refused, null if it went well. Anything else is thrown. */
function refusal(path: string, pc: ReturnType<typeof smallPc>): string | null {
  let snapshot: Snapshot | null = null;
  try {
    snapshot = new Snapshot(path);
    snapshot.load(pc);
    return null;
  } catch (error) {
    if (error instanceof RestoreError) return error.message;
    throw error;
  } finally {
    snapshot?.close();
  }
}

Deno.test("every bit that flips, and every byte that is missing, is noticed and named", () => {
  inFolder((folder) => {
    const path = `${folder}/s`, pc = smallPc(), random = new Random(3);
    for (const compress of [false, true]) {
      write(path, usedPc(), compress);
      const good = Deno.readFileSync(path);
      assertEquals(refusal(path, pc), null);
      for (let n = 0; n < 250; n++) {
        const bad = good.slice(0, n % 5 === 0 ? random.below(good.length) : good.length);
        if (n % 5 !== 0) {
          // Half of them where headers and small sections are.
          const at = random.below(n % 2 ? good.length : 600);
          bad[at]! ^= 1 << random.below(8);
        }
        Deno.writeFileSync(path, bad);
        const message = refusal(path, pc) ?? "";
        assert(message.startsWith(`Cannot resume "${path}": `), `${n}: ${message}`);
        assert(/section|its head|not a snapshot/.test(message), message);
      }
      Deno.writeFileSync(path, new Uint8Array([...good, 0]));
      assert(refusal(path, pc)?.includes("more of the file"));
    }
  });
});

/** Sections of a file, with their contents. */
function sections(path: string): [string, Uint8Array][] {
  const reader = new SnapshotReader(path), found: [string, Uint8Array][] = [];
  for (let s = reader.next(); s !== null; s = reader.next()) found.push([s.name, reader.contents()]);
  reader.close();
  return found;
}
function put(path: string, all: readonly [string, Uint8Array][]): void {
  const writer = new SnapshotWriter(path, false);
  for (const [name, bytes] of all) writer.section(name, bytes);
  writer.finish();
}

Deno.test("a file whose checksums are right and whose contents are not is refused, or does no harm", () => {
  inFolder((folder) => {
    const path = `${folder}/s`, pc = smallPc(), random = new Random(9);
    write(path);
    const good = sections(path);
    let refused = 0, loaded = 0;
    for (let n = 0; n < 400; n++) {
      const bad = good.map(([name, bytes]) => [name, bytes.slice()] as [string, Uint8Array]);
      const section = n % 4 === 0 ? random.pick(bad) : bad[n % 4 === 1 ? 0 : 1]!;
      const bytes = section[1];
      switch (random.below(8)) {
        case 0:
          section[1] = bytes.subarray(0, random.below(bytes.length));
          break;
        case 1:
          section[1] = new Uint8Array([...bytes, ...bytes.subarray(0, random.below(100))]);
          break;
        case 2:
          bad.splice(random.below(bad.length), 1);
          break;
        case 3:
          bad.splice(random.below(bad.length), 0, random.pick(bad));
          break;
        default:
          for (let flips = 1 + random.below(3); flips > 0; flips--) {
            bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
          }
      }
      put(path, bad);
      pc.powerOn();
      const message = refusal(path, pc);
      if (message !== null) refused++;
      else {
        loaded++;
        // The devices may be in any state, and take whatever comes.
        for (let i = 0; i < 50; i++) {
          const port = random.pick([0x20, 0x21, 0x40, 0x43, 0x60, 0x64, 0x70, 0x71, 0x3f8, 0x3f9, 0x3fb, 0x604, 0xcfc]);
          if (random.below(2)) pc.ports.write(port, 1, random.below(256));
          else assert(pc.ports.read(port, 1) <= 255);
        }
        pc.timers.runDue(pc.clock.nowNs());
      }
    }
    assert(refused > 100 && loaded > 50, `${refused} refused, ${loaded} loaded`);
  });
});

Deno.test("fields of the machine that nobody could have written are refused by name", () => {
  inFolder((folder) => {
    const path = `${folder}/s`;
    write(path);
    const good = sections(path), json = JSON.parse(new TextDecoder().decode(good[0]![1]));
    // deno-lint-ignore no-explicit-any
    const bad: [string, (m: any) => void][] = [
      ["spec.cpus: expected a whole number", (m) => m.spec.cpus = 1e9],
      ["spec.cpus", (m) => m.spec.cpus = "2"],
      ["spec.memoryBytes", (m) => m.spec.memoryBytes = -4096],
      ["spec.memoryBytes", (m) => m.spec.memoryBytes = 2 ** 45],
      ["spec.engine: expected hvf or kvm or soft", (m) => m.spec.engine = "qemu"],
      ["spec.disks: expected a list", (m) => m.spec.disks = {}],
      ["spec.disks.0.path", (m) => m.spec.disks = [{ path: 5, readonly: true, format: "raw" }]],
      ["disks: found 0, expected 1", (m) => m.spec.disks = [{ path: "a", readonly: true, format: "raw" }]],
      ["spec.serial.0.kind", (m) => m.spec.serial = [{ kind: "printer" }]],
      ["spec.serial", (m) => m.spec.serial = Array(9).fill({ kind: "none" })],
      ["spec.net.mac", (m) => m.spec.net.mac = [1, 2, 3]],
      ["spec.net.mac.5", (m) => m.spec.net.mac = [1, 2, 3, 4, 5, 256]],
      ["spec.net.publish.0.port", (m) => m.spec.net.publish = [{ protocol: "tcp", address: "", port: -1 }]],
      ["spec.net.tftp: expected none", (m) => m.spec.net.tftp = "/"],
      ["spec.net.rom", (m) => m.spec.net.rom = 5],
      [
        "spec.firmware.boot.0: expected disk or cdrom or net",
        (m) => m.spec.firmware = { path: "f", vars: null, boot: ["usb"] },
      ],
      ["spec.trace", (m) => m.spec.trace = { path: "/etc/passwd" }],
      ["spec.kernel", (m) => m.spec.kernel = "a\0b"],
      ["spec", (m) => m.spec = null],
      ["timeNs", (m) => m.timeNs = -1],
      ["savedAtMs", (m) => m.savedAtMs = 1e300],
      ["ramBytes", (m) => m.ramBytes = 4096],
    ];
    const pc = smallPc();
    for (const [message, spoil] of bad) {
      const machine = structuredClone(json);
      spoil(machine);
      put(path, [["machine", new TextEncoder().encode(JSON.stringify(machine))], ...good.slice(1)]);
      const found = refusal(path, pc);
      assert(found?.includes(`section "machine": ${message}`), `${message}: ${found}`);
    }
    put(path, [["machine", new TextEncoder().encode("{")], ...good.slice(1)]);
    assert(refusal(path, pc)?.includes('section "machine": it is not JSON'));
  });
});

Deno.test("a folder that a machine gives away by TFTP is not in its snapshot", () => {
  inFolder((folder) => {
    const path = `${folder}/s`, net = { ...SMALL.net!, tftp: "/srv/tftp", bootFile: "f" };
    write(path, usedPc(), false, { ...SMALL, net });
    const snapshot = new Snapshot(path);
    assertEquals(snapshot.machine.spec.net, { ...SMALL.net!, bootFile: "f" });
    snapshot.close();
  });
});

Deno.test("files that are something else, or cannot be had, are refused in a sentence", () => {
  inFolder((folder) => {
    const path = `${folder}/s`;
    assertThrows(() => new Snapshot(path), RestoreError, "there is no such file");
    Deno.writeTextFileSync(path, "");
    assertThrows(() => new Snapshot(path), RestoreError, "it is not a snapshot");
    Deno.writeFileSync(path, new Uint8Array(100_000).fill(0x7f));
    assertThrows(() => new Snapshot(path), RestoreError, "it is not a snapshot");
    assertThrows(() => new Snapshot(folder), Error, folder);
    // A later version of the format.
    const head = new Uint8Array(16);
    head.set(new TextEncoder().encode("trikesnp"));
    head[8] = 2;
    new DataView(head.buffer).setUint32(12, crc32(head, 0, 12), true);
    Deno.writeFileSync(path, head);
    assertThrows(() => new Snapshot(path), RestoreError, "found version 2 of the format, expected 1");
  });
});

Deno.test("a small file cannot make us allocate much", () => {
  inFolder((folder) => {
    const path = `${folder}/s`;
    // A section that says it is larger than any may be, and one that unpacks to more than it says.
    const header = expected([["machine", new Uint8Array(0)]]);
    const dv = new DataView(header.buffer);
    for (const at of [24, 28]) dv.setUint32(16 + at, MAX_SECTION_BYTES + 1, true);
    dv.setUint32(16 + 36, crc32(header, 16, 16 + 36), true);
    Deno.writeFileSync(path, header);
    assertThrows(() => new Snapshot(path), RestoreError, "expected at most");

    const writer = new SnapshotWriter(path, true);
    writer.section("machine", new Uint8Array(8 << 20));
    writer.finish();
    const packed = Deno.readFileSync(path), view = new DataView(packed.buffer);
    assert(packed.length < 5000);
    view.setUint32(16 + 28, 1000, true);
    view.setUint32(16 + 36, crc32(packed, 16, 16 + 36), true);
    Deno.writeFileSync(path, packed);
    assertThrows(() => new Snapshot(path), RestoreError, "it cannot be unpacked");
  });
});
