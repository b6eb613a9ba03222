/** A machine with a network in each state of its life, with scripted guests. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConfigError, HostError } from "../../src/base/errors.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { startMachine } from "../../src/machine/machine.ts";
import type { MachineSpec, NetSpec } from "../../src/machine/spec.ts";

const ENTRY: InitialState = {
  rip: 0x100000,
  rflags: 2,
  cr0: 1,
  cr3: 0,
  cr4: 0,
  efer: 0,
  gpr: {},
  segments: {},
  gdtr: { base: 0, limit: 0 },
  idtr: { base: 0, limit: 0 },
};

const USER: NetSpec = { kind: "user", mac: [2, 0, 0, 0, 0, 1], pcap: null, restrict: false, dns: null, publish: [] };

function start(script: string, net: NetSpec, change: Partial<MachineSpec> = {}) {
  const spec: MachineSpec = {
    engine: "soft",
    memoryBytes: 16 << 20,
    cpus: 1,
    kernel: "none",
    initrd: null,
    append: script,
    disks: [],
    net,
    serial: [{ kind: "none" }],
    noReboot: false,
    icount: false,
    trace: null,
    ...change,
  };
  const vcpuWorker = new URL("../machine/scripted_worker.ts", import.meta.url);
  return startMachine(spec, { vcpuWorker, boot: () => ENTRY });
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("the guest finds a network device on PCI", async () => {
  const machine = await start("pci", USER);
  await machine.ended;
  assert(text(machine.serial[0]!.tx.read()).includes("1af4:1041"));
});

Deno.test("a machine with a network pauses, is saved and restored, goes on and stops", async () => {
  const machine = await start("ticks", USER);
  assert(await machine.pause());
  assertEquals(machine.pc.control.netHold, true);
  machine.restore(machine.save());
  assert(machine.resume());
  assertEquals(machine.pc.control.netHold, false);
  assert(await machine.pause());
  machine.stop();
  assertEquals((await machine.ended).kind, "stopped");
});

Deno.test("the network's worker lives through resets of the guest", async () => {
  const machine = await start("reset", USER);
  const end = await machine.ended;
  assert(end.kind !== "host-error", JSON.stringify(end));
  assertEquals(machine.stats().reboots, 2);
});

Deno.test("a port that is taken is the host's refusal, told before anything runs", async () => {
  const taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const publish = [{ protocol: "tcp" as const, address: "127.0.0.1", port: taken.addr.port, guestPort: 80 }];
  await assertRejects(
    () => start("idle", { ...USER, publish }),
    HostError,
    `127.0.0.1:${taken.addr.port}/tcp for --publish`,
  );
  taken.close();
});

Deno.test("a socket where nobody listens is the host's refusal; instructions cannot be counted with a network", async () => {
  const stream: NetSpec = { kind: "stream", mac: [2, 0, 0, 0, 0, 1], pcap: null, path: "/nowhere/socket" };
  await assertRejects(() => start("idle", stream), HostError, "/nowhere/socket");
  await assertRejects(() => start("idle", USER, { icount: true }), ConfigError, "--icount");
});

Deno.test("the stream back end is a client of the socket for as long as the machine runs", async () => {
  const folder = await Deno.makeTempDir();
  const listener = Deno.listen({ transport: "unix", path: `${folder}/s` });
  const accepted = listener.accept();
  const machine = await start("idle", {
    kind: "stream",
    mac: [2, 0, 0, 0, 0, 1],
    pcap: `${folder}/p`,
    path: `${folder}/s`,
  });
  const conn = await accepted;
  machine.stop();
  await machine.ended;
  assertEquals(await conn.read(new Uint8Array(1)), null);
  conn.close();
  listener.close();
  assertEquals((await Deno.stat(`${folder}/p`)).size, 24);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a published port is open while the machine runs, and free again when it has ended", async () => {
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = free.addr;
  free.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const machine = await start("idle", {
    ...USER,
    publish: [{ protocol: "tcp", address: "127.0.0.1", port, guestPort: 80 }],
  });
  (await Deno.connect({ hostname: "127.0.0.1", port })).close();
  machine.stop();
  assertEquals((await machine.ended).kind, "stopped");
  // The worker's sockets go with the worker, which takes a moment.
  for (let refused = false, tries = 0; !refused; tries++) {
    assert(tries < 100, "still open");
    try {
      (await Deno.connect({ hostname: "127.0.0.1", port })).close();
      await new Promise((resolve) => setTimeout(resolve, 20));
    } catch (error) {
      refused = error instanceof Deno.errors.ConnectionRefused;
    }
  }
});
