import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { withBootRom } from "../../src/cli/boot_rom.ts";
import { chooseNet, macOf, netOption, publishOptions } from "../../src/cli/net_option.ts";

const none = { net: null, publish: [], icount: false, name: "disk.img", allowed: true };

Deno.test("--net understands its kinds; what it does not, it says in one sentence", () => {
  assertEquals(netOption("--net", "none"), { kind: "none" });
  assertEquals(netOption("--net", "stream:/run/s,mac=02:00:00:00:00:01"), {
    kind: "stream",
    mac: [2, 0, 0, 0, 0, 1],
    pcap: null,
    path: "/run/s",
  });
  assertEquals(netOption("--net", "user,dns=127.0.0.1:5353"), {
    kind: "user",
    mac: null,
    pcap: null,
    restrict: false,
    dns: { address: "127.0.0.1", port: 5353 },
  });
  const device = { mac: null, pcap: null };
  for (
    const [text, request] of [
      ["switch:lab", { kind: "switch", name: "lab", ...device }],
      ["tap:tap0,model=e1000", { kind: "tap", name: "tap0", ...device, model: "e1000" }],
      ["dgram:/run/d,queues=2", { kind: "dgram", path: "/run/d", ...device, queues: 2 }],
      ["vmnet", { kind: "vmnet", mode: "shared", interface: null, ...device }],
      ["vmnet:bridged=en0", { kind: "vmnet", mode: "bridged", interface: "en0", ...device }],
      ["user,tftp=/a,,b,bootfile=x,bootfile-uefi=y", {
        kind: "user",
        ...device,
        restrict: false,
        dns: null,
        tftp: "/a,b",
        bootFile: "x",
        bootFileUefi: "y",
      }],
      ["tap:tap0,rom=r.rom", { kind: "tap", name: "tap0", ...device, rom: "r.rom" }],
      ["user,dns=[::1]:53", { kind: "user", ...device, restrict: false, dns: { address: "::1", port: 53 } }],
    ] as const
  ) assertEquals(netOption("--net", text) as unknown, request);
  for (
    const [text, names] of [
      ["usr", "did you mean user?"],
      ["none,restrict", "user, none, stream:PATH"],
      ["user,restict", "did you mean restrict?"],
      ["user,mac=01:00:00:00:00:00", "one station"],
      ["user,mac=2:0", "one station"],
      ["user,dns=example.org", "IPv4"],
      ["user,dns=1.2.3.4:99999", "65535"],
      ["user,pcap=", "pcap=FILE"],
      ["stream:", "a path"],
      ["stream:/s,restrict", "mac=MAC or rom=FILE"],
      ["user,model=e100", "did you mean e1000?"],
      ["user,queues=9", "1 to 8"],
      ["user,model=e1000,queues=2", "no queues="],
      ["switch:", "a name"],
      ["user,bootfile=x", "tftp=FOLDER beside"],
      [`user,tftp=d,bootfile=${"x".repeat(128)}`, "127 bytes"],
      ["user,tftp=d,bootfile-uefi=", "1 to 127"],
      ["user,tftp=", "tftp=FOLDER"],
      ["switch:lab,tftp=d", 'found "tftp=d"'],
      ["switch:a/b", "a name"],
      ["dgram:", "a path"],
      ["tap", "did you mean tap:?"],
      ["tap:averyveryverylongname", "an interface"],
      ["vmnet:bridged", "bridged=INTERFACE"],
      ["user,dns=[::1", "IPv6"],
      [`stream:/${"x".repeat(110)}`, "103 bytes"],
    ] as const
  ) {
    const { message } = assertThrows(() => netOption("--net", text), ConfigError);
    assert(message.includes("--net") && message.includes(names) && !message.includes("\n"), `${text}: ${message}`);
  }
});

Deno.test("--publish: loop-back unless an address is given, TCP unless it says UDP", () => {
  assertEquals(publishOptions("--publish", ["8080:80", "0.0.0.0:8080:81/tcp", "8080:80/udp", "[::1]:8080:80"]), [
    { protocol: "tcp", address: "127.0.0.1", port: 8080, guestPort: 80 },
    { protocol: "tcp", address: "0.0.0.0", port: 8080, guestPort: 81 },
    { protocol: "udp", address: "127.0.0.1", port: 8080, guestPort: 80 },
    { protocol: "tcp", address: "::1", port: 8080, guestPort: 80 },
  ]);
  for (const text of ["80", "80:", "a:80:80", "1.2.3:1:1", "0:80", "80:65536", "80:80/sctp", "999.0.0.1:80:80"]) {
    assertThrows(() => publishOptions("--publish", [text]), ConfigError, "--publish");
  }
  assertThrows(() => publishOptions("--publish", ["80:1", "80:2"]), ConfigError, "twice");
});

Deno.test("a machine has a network if it may, and says in a line if it may not", () => {
  assertEquals(chooseNet(none).net!.kind, "user");
  const denied = chooseNet({ ...none, allowed: false });
  assertEquals(denied.net, undefined);
  assert(denied.note!.includes("--allow-net"));
  const asked = chooseNet({ ...none, allowed: false, net: netOption("--net", "user") });
  assertEquals([asked.net!.kind, asked.note], ["user", "the network goes no further than --allow-net does"]);
  assertEquals(chooseNet({ ...none, net: { kind: "none" } }), { net: undefined, note: null });
  assertEquals(chooseNet({ ...none, icount: true }), { net: undefined, note: null });
  const publish = publishOptions("--publish", ["80:80"]);
  assertThrows(() => chooseNet({ ...none, publish, icount: true }), ConfigError, "--publish");
  assertThrows(() => chooseNet({ ...none, publish, net: { kind: "none" } }), ConfigError, "--publish");
  assertThrows(() => chooseNet({ ...none, icount: true, net: netOption("--net", "user") }), ConfigError, "--icount");
  assertEquals(chooseNet({ ...none, publish }).net, { ...chooseNet(none).net!, publish } as never);
});

Deno.test("the MAC address stays with its name, is one station's and locally administered", () => {
  assertEquals(macOf("a"), macOf("a"));
  assert(macOf("a").join() !== macOf("b").join());
  assertEquals(macOf("anything")[0]! & 3, 2);
});

Deno.test("an option ROM is looked for where network boot is wanted and firmware has no driver of its own", () => {
  const bios = { path: "/fw/bios.bin", vars: null }, uefi = { path: "/fw/code.fd", vars: "v" };
  const net = (text: string) => chooseNet({ ...none, net: netOption("--net", text) }).net;
  const rom = (firmware: Parameters<typeof withBootRom>[0], text: string, ...files: string[]) =>
    withBootRom(firmware, net(text), (path) => files.includes(path))?.rom;
  const inDebian = ["/usr/lib/ipxe/qemu/pxe-virtio.rom", "/usr/lib/ipxe/qemu/efi-e1000.rom"];
  assertEquals(rom(bios, "user", ...inDebian), undefined);
  assertEquals(rom(bios, "user,tftp=d,bootfile=f", ...inDebian), inDebian[0]);
  assertEquals(rom({ ...bios, boot: ["disk"] }, "user,tftp=d,bootfile=f", ...inDebian), undefined);
  assertEquals(rom({ ...bios, boot: ["disk", "net"] }, "tap:tap0,model=e1000", ...inDebian), inDebian[1]);
  assertEquals(rom({ ...bios, boot: ["net"] }, "user", ...inDebian, "/fw/efi-virtio.rom"), "/fw/efi-virtio.rom");
  assertEquals(rom({ ...bios, boot: ["net"] }, "user,rom=mine"), "mine");
  assertEquals(rom({ ...uefi, boot: ["net"] }, "user"), undefined);
  assertEquals(rom({ ...uefi, boot: ["net"] }, "user,model=e1000", ...inDebian), inDebian[1]);
  assertThrows(() => rom({ ...bios, boot: ["net"] }, "user"), ConfigError, '--boot "net": expected pxe-virtio.rom of');
  assertThrows(() => rom(uefi, "user,model=e1000,tftp=d,bootfile=f"), ConfigError, "efi-e1000.rom of");
  assertThrows(() => rom({ ...bios, boot: ["net"] }, "none"), ConfigError, "a network card");
  assertThrows(() => rom(null, "user,rom=mine"), ConfigError, "--firmware");
  assertEquals(rom(null, "user,tftp=d,bootfile=f", ...inDebian), undefined); // a kernel may be a loader, too
});
