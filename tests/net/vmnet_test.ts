/** The vmnet back end on the double of the framework. */
import { assertEquals } from "@std/assert";
import { VmnetNet } from "../../src/host/net/vmnet_net.ts";
import type { Wire } from "../../src/host/net/wire.ts";

const ignore = Deno.build.os !== "linux" || Deno.build.arch !== "x86_64";
if (ignore) console.log("skipped: vmnet's double: it is made for x86-64 Linux");
const leaky = { ignore, sanitizeOps: false, sanitizeResources: false };

const frame = (n: number, bytes = 60) => new Uint8Array(bytes).fill(n, 12).fill(255, 0, 6);

class Cable implements Wire {
  checksums = false;
  segments = false;
  segments6 = false;
  room = Infinity;
  readonly got: number[][] = [];
  send(f: Uint8Array): boolean {
    if (this.room === 0) return false;
    this.room--;
    this.got.push([f.length, f[12]!]);
    return true;
  }
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 300 && !what(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

Deno.test({
  name: "vmnet: packets of a burst go together, and come together; room is waited for; interfaces end",
  ...leaky,
}, async () => {
  const { openDoubleVmnet, writeDoubleVmnet } = await import("../double/vmnet/double.ts");
  openDoubleVmnet(writeDoubleVmnet(await Deno.makeTempDir({ prefix: "double-" })));
  const a = new Cable(), b = new Cable();
  const first = new VmnetNet(a, { mode: "shared", interface: null });
  const second = new VmnetNet(b, { mode: "shared", interface: null });
  await first.open();
  await second.open();
  for (let n = 1; n <= 100; n++) first.receive(frame(n, 60 + n));
  first.receive(frame(7, 1515)); // larger than any: lost by itself, and not with the others
  first.endOfBurst();
  await until(() => b.got.length === 100);
  assertEquals(b.got, Array.from({ length: 100 }, (_, i) => [61 + i, i + 1]));
  a.room = 2;
  for (let n = 1; n <= 5; n++) second.receive(frame(n));
  second.endOfBurst();
  await until(() => a.got.length === 2);
  assertEquals(a.got, [[60, 1], [60, 2]]);
  a.room = Infinity;
  first.room();
  await until(() => a.got.length === 5);
  assertEquals(a.got.map(([, n]) => n), [1, 2, 3, 4, 5]);
  first.close();
  first.close();
  second.close();
  first.receive(frame(1));
  first.endOfBurst();
  await new Promise((resolve) => setTimeout(resolve, 250));
});

Deno.test({
  name: "vmnet: without the framework, the host's refusal says where it is",
  ignore: Deno.build.os !== "linux",
}, async () => {
  const worker = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--no-check",
      `
      import { VmnetNet } from "${new URL("../../src/host/net/vmnet_net.ts", import.meta.url)}";
      await new VmnetNet({}, { mode: "host", interface: null }).open().catch((e) => console.log(e.message));
    `,
    ],
    stdout: "piped",
    stderr: "null",
  });
  const said = new TextDecoder().decode((await worker.output()).stdout);
  assertEquals(/vmnet.framework for --net vmnet: .*macOS/.test(said), true, said);
});
