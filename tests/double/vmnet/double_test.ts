/** vmnet, call by call, as a program of ours would: blocks made by hand, frames between two interfaces. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import * as N from "../../../ffi/vmnet.ts";
import { attachDoubleVmnet, writeDoubleVmnet } from "./double.ts";

const path = writeDoubleVmnet(Deno.makeTempDirSync({ prefix: "double-" }));
attachDoubleVmnet(path);
const lib = Deno.dlopen(path, { ...N.VMNET_SYMBOLS, ...N.LIBSYSTEM_SYMBOLS });
const net = lib.symbols;
const R = N.vmnet_return_t;
const NAMES = Object.fromEntries(Object.entries(R).map(([name, code]) => [code, name.replace("VMNET_", "")]));
const said = (code: number) => NAMES[code] ?? `${code}`;
const c = (text: string) => new TextEncoder().encode(`${text}\0`);
const kept: unknown[] = [];

/** A global block whose function has these parameters behind the block itself. */
function block(parameters: ("u32" | "pointer")[], body: (...args: never[]) => void, isa?: bigint): Deno.PointerObject {
  const callback = new Deno.UnsafeCallback(
    { parameters: ["pointer", ...parameters], result: "void" } as never,
    ((
      _: unknown,
      ...args: never[]
    ) => body(...args)) as never,
  );
  callback.ref();
  const descriptor = BigUint64Array.of(0n, 32n);
  const literal = new BigUint64Array(4);
  literal[0] = isa ?? BigInt(Deno.UnsafePointer.value(net._NSConcreteGlobalBlock!));
  literal[1] = BigInt(N.Block_flags.BLOCK_IS_GLOBAL);
  literal[2] = BigInt(Deno.UnsafePointer.value(callback.pointer));
  literal[3] = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(descriptor)));
  kept.push(callback, descriptor, literal);
  unrefs.push(() => callback.unref());
  return Deno.UnsafePointer.of(literal)!;
}
const unrefs: (() => void)[] = [];

const queue = net.dispatch_queue_create(c("test"), null)!;
interface Started {
  readonly handle: Deno.PointerObject;
  readonly status: number;
  readonly mac: string;
  readonly mtu: bigint;
  readonly largest: bigint;
}
const text = (pointer: Deno.PointerValue) => pointer === null ? "" : Deno.UnsafePointerView.getCString(pointer);

function dictionary(mode: number, more: (d: Deno.PointerObject) => void = () => {}): Deno.PointerObject {
  const desc = net.xpc_dictionary_create(null, null, 0n)!;
  if (mode !== 0) net.xpc_dictionary_set_uint64(desc, c("vmnet_operation_mode"), BigInt(mode));
  more(desc);
  return desc;
}
function start(mode: number, more?: (d: Deno.PointerObject) => void): Promise<Started> {
  const desc = dictionary(mode, more);
  return new Promise((resolve) => {
    const done = block(
      ["u32", "pointer"],
      ((status: number, param: Deno.PointerValue) => {
        const get = (key: string) => net.xpc_dictionary_get_uint64(param, c(key));
        resolve(
          param === null ? { handle: handle!, status, mac: "", mtu: 0n, largest: 0n } : {
            handle: handle!,
            status,
            mac: text(net.xpc_dictionary_get_string(param, c("vmnet_mac_address"))),
            mtu: get("vmnet_mtu"),
            largest: get("vmnet_max_packet_size"),
          },
        );
      }) as never,
    );
    const handle = net.vmnet_start_interface(desc, queue, done);
    assertNotEquals(handle, null);
    net.xpc_release(desc);
  });
}
function stop(i: Started): Promise<number> {
  return new Promise((resolve) => {
    const done = block(["u32"], ((status: number) => resolve(status)) as never);
    assertEquals(said(net.vmnet_stop_interface(i.handle, queue, done)), "SUCCESS");
  });
}

/** Descriptors over buffers of `room` bytes, or over the frames given. */
class Packets {
  readonly buffers: Uint8Array[];
  readonly #iovs: BigUint64Array;
  readonly descriptors: Uint8Array<ArrayBuffer>;
  readonly #dv: DataView;
  readonly count: Int32Array<ArrayBuffer>;
  constructor(buffers: Uint8Array[]) {
    this.buffers = buffers;
    this.#iovs = new BigUint64Array(2 * buffers.length);
    this.descriptors = new Uint8Array(N.vmpktdesc.SIZEOF * buffers.length);
    this.#dv = new DataView(this.descriptors.buffer);
    this.count = Int32Array.of(buffers.length);
    const iovs = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.#iovs)));
    buffers.forEach((buffer, i) => {
      this.#iovs[2 * i] = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer)));
      this.#iovs[2 * i + 1] = BigInt(buffer.length);
      this.#dv.setBigUint64(24 * i, BigInt(buffer.length), true);
      this.#dv.setBigUint64(24 * i + 8, iovs + BigInt(16 * i), true);
      this.#dv.setUint32(24 * i + 16, 1, true);
    });
  }
  size(i: number): number {
    return Number(this.#dv.getBigUint64(24 * i, true));
  }
  setSize(i: number, bytes: number): void {
    this.#dv.setBigUint64(24 * i, BigInt(bytes), true);
  }
}
const frame = (bytes: number, fill: number) => new Uint8Array(bytes).fill(fill);
const write = (i: Started, p: Packets) => said(net.vmnet_write(i.handle, p.descriptors, p.count));
const read = (i: Started, p: Packets) => said(net.vmnet_read(i.handle, p.descriptors, p.count));
const { VMNET_SHARED_MODE: SHARED, VMNET_HOST_MODE: HOST, VMNET_BRIDGED_MODE: BRIDGED } = N.vmnet_mode_t;

Deno.test({ name: "vmnet: every function and key of the binding is there", sanitizeResources: false }, () => {
  for (const [name, symbol] of Object.entries(net)) assertNotEquals(symbol, null, name);
  const keys = Object.fromEntries(Object.keys(N.vmnet_keys).map((name) => [name, { type: "pointer" } as const]));
  const variables = Deno.dlopen(path, keys);
  for (const [name, value] of Object.entries(N.vmnet_keys)) {
    const variable = new Deno.UnsafePointerView((variables.symbols as Record<string, Deno.PointerObject>)[name]!);
    assertEquals(text(variable.getPointer()), value);
  }
  variables.close();
});

Deno.test({ name: "vmnet: frames go to the others of the network, several a call", sanitizeOps: false }, async () => {
  const a = await start(SHARED), b = await start(SHARED), other = await start(HOST);
  assertEquals([a.status, b.status, said(other.status)], [R.VMNET_SUCCESS, R.VMNET_SUCCESS, "SUCCESS"]);
  assert(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(a.mac) && a.mac !== b.mac, `${a.mac} ${b.mac}`);
  assertEquals([a.mtu, a.largest], [1500n, 1514n]);
  assertEquals(write(a, new Packets([frame(60, 1), frame(1514, 2), frame(100, 3)])), "SUCCESS");
  const into = new Packets([1, 2, 3, 4].map(() => frame(1514, 0)));
  assertEquals([read(b, into), into.count[0]], ["SUCCESS", 3]);
  assertEquals([0, 1, 2].map((i) => [into.size(i), into.buffers[i]![0]]), [[60, 1], [1514, 2], [100, 3]]);
  // Nothing waits, which is no error; and neither the sender nor another network has them.
  for (const i of [a, b, other]) {
    const none = new Packets([frame(1514, 0)]);
    assertEquals([read(i, none), none.count[0]], ["SUCCESS", 0]);
  }
  assertEquals((await Promise.all([a, b, other].map(stop))).map(said), ["SUCCESS", "SUCCESS", "SUCCESS"]);
});

Deno.test({ name: "vmnet: events tell that packets wait", sanitizeOps: false }, async () => {
  const a = await start(SHARED), b = await start(SHARED);
  const told = new Promise<bigint>((resolve) => {
    const event = block(
      ["u32", "pointer"],
      ((mask: number, dict: Deno.PointerValue) => {
        assertEquals(mask, 1);
        resolve(net.xpc_dictionary_get_uint64(dict, c("vmnet_estimated_packets_available")));
      }) as never,
    );
    assertEquals(said(net.vmnet_interface_set_event_callback(b.handle, 1, queue, event)), "SUCCESS");
    assertEquals(said(net.vmnet_interface_set_event_callback(b.handle, 1, null, event)), "INVALID_ARGUMENT");
  });
  write(a, new Packets([frame(60, 7), frame(60, 8)]));
  assertEquals(await told, 2n);
  assertEquals(said(net.vmnet_interface_set_event_callback(b.handle, 0, null, null)), "SUCCESS");
  await Promise.all([a, b].map(stop));
});

Deno.test({ name: "vmnet: each rule of reading and writing broken once", sanitizeOps: false }, async () => {
  const a = await start(SHARED), b = await start(SHARED);
  assertEquals(write(a, new Packets([frame(60, 1), frame(1515, 1)])), "PACKET_TOO_BIG");
  assertEquals(write(a, new Packets([frame(60, 1), frame(10, 1)])), "INVALID_ARGUMENT");
  const short = new Packets([frame(60, 1)]);
  short.setSize(0, 61);
  assertEquals(write(a, short), "INVALID_ARGUMENT");
  const many = new Packets(Array.from({ length: 257 }, () => frame(60, 1)));
  assertEquals(write(a, many), "TOO_MANY_PACKETS");
  const none = new Packets([frame(60, 1)]);
  none.count[0] = 0;
  assertEquals(write(a, none), "INVALID_ARGUMENT");
  assertEquals(said(net.vmnet_write(a.handle, null, none.count)), "INVALID_ARGUMENT");
  // All or nothing: none of those has come.
  const into = new Packets([frame(40, 0), frame(40, 0)]);
  assertEquals([read(b, into), into.count[0]], ["SUCCESS", 0]);
  // What has too little room is cut.
  into.count[0] = 2;
  write(a, new Packets([frame(60, 9)]));
  assertEquals([read(b, into), into.count[0], into.size(0)], ["SUCCESS", 1, 40]);
  // After a stop nothing is read or written.
  const done = stop(a);
  assertEquals(write(a, new Packets([frame(60, 1)])), "INVALID_ACCESS");
  await done;
  assertNotEquals(write(a, new Packets([frame(60, 1)])), "SUCCESS");
  await stop(b);
});

Deno.test({ name: "vmnet: an interface is usable once its block has been called", sanitizeOps: false }, async () => {
  let status = 0;
  const called = new Promise<void>((resolve) => {
    const done = block(["u32", "pointer"], ((s: number) => (status = s, resolve())) as never);
    const handle = net.vmnet_start_interface(dictionary(SHARED), queue, done)!;
    const packets = new Packets([frame(1514, 0)]);
    assertEquals(said(net.vmnet_read(handle, packets.descriptors, packets.count)), "SETUP_INCOMPLETE");
    started = { handle, status, mac: "", mtu: 0n, largest: 0n };
  });
  await called;
  assertEquals(said(status), "SUCCESS");
  await stop(started!);
});
let started: Started | undefined;

Deno.test({ name: "vmnet: descriptions that do not fit are refused by their block", sanitizeOps: false }, async () => {
  const set = (key: string, value: string) => (d: Deno.PointerObject) =>
    net.xpc_dictionary_set_string(d, c(key), c(value));
  const refused = [
    await start(0),
    await start(BRIDGED),
    await start(SHARED, set("vmnet_start_address", "192.168.9.1")),
    await start(BRIDGED, (d) => {
      set("vmnet_shared_interface_name", "en0")(d);
      net.xpc_dictionary_set_uint64(d, c("vmnet_mtu"), 1500n);
    }),
    await start(SHARED, (d) => {
      set("vmnet_start_address", "8.8.8.1")(d);
      set("vmnet_end_address", "8.8.8.254")(d);
      set("vmnet_subnet_mask", "255.255.255.0")(d);
    }),
    await start(SHARED, (d) => {
      net.xpc_dictionary_set_bool(d, c("vmnet_enable_virtio_header"), true);
      net.xpc_dictionary_set_bool(d, c("vmnet_enable_checksum_offload"), true);
    }),
  ];
  assertEquals(refused.map(({ status }) => said(status)), refused.map(() => "INVALID_ARGUMENT"));
  const bridged = await start(BRIDGED, set("vmnet_shared_interface_name", "en0"));
  assertEquals(said(bridged.status), "SUCCESS");
  await stop(bridged);
});

Deno.test({ name: "vmnet: a process without rights is told so by the block", sanitizeOps: false }, async () => {
  attachDoubleVmnet(path, R.VMNET_NOT_AUTHORIZED);
  try {
    assertEquals(said((await start(SHARED)).status), "NOT_AUTHORIZED");
  } finally {
    attachDoubleVmnet(path);
  }
});

Deno.test({ name: "vmnet: a block that is not a global one is not called", sanitizeOps: false }, () => {
  const wrong = block(["u32", "pointer"], () => {}, 0x1000n);
  const told = console.error;
  const lines: string[] = [];
  console.error = (line: string) => lines.push(line);
  try {
    assertEquals(net.vmnet_start_interface(dictionary(SHARED), queue, wrong), null);
  } finally {
    console.error = told;
  }
  assertEquals(lines.length, 1);
});

Deno.test({ name: "vmnet: a header before each frame, where it is asked for", sanitizeOps: false }, async () => {
  const a = await start(SHARED, (d) => net.xpc_dictionary_set_bool(d, c("vmnet_enable_virtio_header"), true));
  const b = await start(SHARED);
  const sent = frame(12 + 60, 5);
  assertEquals(write(a, new Packets([sent])), "SUCCESS");
  const into = new Packets([frame(1526, 0)]);
  assertEquals([read(b, into), into.size(0), into.buffers[0]![0]], ["SUCCESS", 60, 5]);
  write(b, new Packets([frame(60, 6)]));
  into.setSize(0, 1526);
  assertEquals([read(a, into), into.size(0)], ["SUCCESS", 72]);
  assertEquals([into.buffers[0]![0], into.buffers[0]![12]], [0, 6]);
  await Promise.all([a, b].map(stop));
});

Deno.test({ name: "vmnet: ports are forwarded, told and no more forwarded", sanitizeOps: false }, async () => {
  const a = await start(SHARED), address = Uint8Array.of(192, 168, 64, 5);
  const add = (external: number) =>
    said(net.vmnet_interface_add_ip_port_forwarding_rule(a.handle, 6, external, 2, address, 22, null));
  assertEquals([add(2222), add(2222), add(0)], ["SUCCESS", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]);
  const protocol = new Uint8Array(1), external = new Uint16Array(1), internal = new Uint16Array(1);
  const found = new Uint8Array(4);
  const rules = await new Promise<[bigint, number]>((resolve) => {
    const done = block(
      ["pointer"],
      ((array: Deno.PointerValue) => {
        const rule = net.xpc_array_get_string(array, 0n);
        const status = net.vmnet_ip_port_forwarding_rule_get_details(rule, protocol, external, 2, found, internal);
        resolve([net.xpc_array_get_count(array), status]);
      }) as never,
    );
    assertEquals(said(net.vmnet_interface_get_ip_port_forwarding_rules(a.handle, 2, done)), "SUCCESS");
  });
  assertEquals([rules, protocol[0], external[0], [...found], internal[0]], [[1n, R.VMNET_SUCCESS], 6, 2222, [
    ...address,
  ], 22]);
  const remove = () => said(net.vmnet_interface_remove_ip_port_forwarding_rule(a.handle, 6, 2222, 2, null));
  assertEquals([remove(), remove()], ["SUCCESS", "INVALID_ARGUMENT"]);
  await stop(a);
});

Deno.test({ name: "vmnet: network objects keep a subnet for the interfaces on them", sanitizeOps: false }, async () => {
  const status = new Uint32Array(1), subnet = Uint8Array.of(10, 9, 8, 0), mask = Uint8Array.of(255, 255, 255, 0);
  assertEquals(net.vmnet_network_configuration_create!(BRIDGED, status), null);
  assertEquals(said(status[0]!), "INVALID_ARGUMENT");
  const configuration = net.vmnet_network_configuration_create!(SHARED, status)!;
  const setSubnet = (a: Uint8Array<ArrayBuffer>) =>
    said(net.vmnet_network_configuration_set_ipv4_subnet!(configuration, a, mask));
  assertEquals([setSubnet(Uint8Array.of(8, 8, 8, 0)), setSubnet(Uint8Array.of(10, 9, 8, 1)), setSubnet(subnet)], [
    "INVALID_ARGUMENT",
    "INVALID_ARGUMENT",
    "SUCCESS",
  ]);
  assertEquals(said(net.vmnet_network_configuration_set_mtu!(configuration, 100)), "INVALID_ARGUMENT");
  net.vmnet_network_configuration_disable_dhcp!(configuration);
  const network = net.vmnet_network_create!(configuration, status)!;
  const out = new Uint8Array(4), outMask = new Uint8Array(4);
  net.vmnet_network_get_ipv4_subnet!(network, out, outMask);
  assertEquals([[...out], [...outMask]], [[...subnet], [...mask]]);
  const startOn = (desc: Deno.PointerObject) =>
    new Promise<Started>((resolve) => {
      const done = block(
        ["u32", "pointer"],
        ((s: number) => resolve({ handle: handle!, status: s, mac: "", mtu: 0n, largest: 0n })) as never,
      );
      const handle = net.vmnet_interface_start_with_network!(network, desc, queue, done);
    });
  const empty = dictionary(0), a = await startOn(empty), b = await startOn(empty), stranger = await start(SHARED);
  write(a, new Packets([frame(60, 1)]));
  const into = new Packets([frame(1514, 0)]);
  assertEquals([read(b, into), into.count[0]], ["SUCCESS", 1]);
  into.setSize(0, 1514);
  assertEquals([read(stranger, into), into.count[0]], ["SUCCESS", 0]);
  // An MTU is the network's, not the interface's.
  const own = dictionary(0, (d) => net.xpc_dictionary_set_uint64(d, c("vmnet_mtu"), 1500n));
  assertEquals(net.vmnet_interface_start_with_network!(network, own, queue, block(["u32", "pointer"], () => {})), null);
  await Promise.all([a, b, stranger].map(stop));
});

Deno.test("vmnet: dictionaries, semaphores and times of libSystem", () => {
  const d = net.xpc_dictionary_create(null, null, 0n)!;
  net.xpc_dictionary_set_uuid(d, c("id"), Uint8Array.from({ length: 16 }, (_, i) => i));
  net.xpc_dictionary_set_bool(d, c("yes"), true);
  const uuid = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(net.xpc_dictionary_get_uuid(d, c("id"))!, 16));
  assertEquals([uuid[15], net.xpc_dictionary_get_bool(d, c("yes"))], [15, true]);
  // A value of another type, and one that is not there.
  assertEquals([net.xpc_dictionary_get_uint64(d, c("yes")), net.xpc_dictionary_get_string(d, c("no"))], [0n, null]);
  assert(text(net.xpc_copy_description(d)).includes("yes"));
  net.xpc_release(d);
  const semaphore = net.dispatch_semaphore_create(0n)!;
  assertNotEquals(net.dispatch_semaphore_wait(semaphore, net.dispatch_time(0n, 1_000_000n)), 0n);
  net.dispatch_semaphore_signal(semaphore);
  assertEquals(net.dispatch_semaphore_wait(semaphore, 0n), 0n);
});

Deno.test(
  { name: "vmnet: the callbacks of these tests are let go", sanitizeOps: false, sanitizeResources: false },
  async () => {
    // In another turn than the last call of one.
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const unref of unrefs) unref();
  },
);
