/** Guests on other cards and other back ends: Linux' driver of the 82545EM, two machines on a switch, passt behind a socket. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { missingPackage } from "../../scripts/bench/host_programs.ts";
import { which } from "../guest/which.ts";
import { guestOrSkip, pattern, script, sha256, Trike, withFolder } from "../boot/guests.ts";

const cloud = await guestOrSkip("cloud"), generic = await guestOrSkip("generic");
const ALLOW = ["--allow-read", "--allow-write", "--allow-env", "--allow-net", "--allow-ffi"];
const tshark = which("tshark");
if (!tshark) console.log("skipped: a capture read by tshark, which is not installed");
const leaky = { sanitizeResources: false, sanitizeOps: false };
const BIG_BYTES = 2 << 20;

function run(guest: { kernel: string; initrd: string; append: string }, text: string, ...more: string[]): Trike {
  const boot = ["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", `${guest.append} ${script(text)}`];
  return new Trike(["run", "-q", "--engine", "soft", "--timeout", "90", ...boot, ...more], ALLOW);
}

/** Serves `big`, and hashes what comes to another port. */
function server(big: Uint8Array<ArrayBuffer>) {
  const ending = new AbortController();
  const { addr } = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: ending.signal, onListen() {} },
    () => new Response(big),
  );
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const uploaded = (async () => {
    using conn = await listener.accept();
    return await sha256(new Uint8Array(await new Response(conn.readable).arrayBuffer()));
  })();
  uploaded.catch(() => {}); // nobody came
  return {
    port: addr.port,
    uploadPort: listener.addr.port,
    uploaded,
    close() {
      ending.abort();
      listener.close();
    },
  };
}

Deno.test({
  name: "Linux' e1000 driver: link, DHCP, 2 MB each way, no errors, the cable of a pcap file",
  ignore: generic.ignore,
  ...leaky,
}, () =>
  withFolder(async (folder) => {
    const big = pattern(BIG_BYTES), hash = await sha256(big);
    const http = server(big);
    const text = `
dmesg | grep -i 'e1000.*link is'
ifconfig eth0 | grep -o 'inet addr:[0-9.]*'
wget -q -O /tmp/big http://10.0.2.2:${http.port}/
sha256sum </tmp/big
nc 10.0.2.2 ${http.uploadPort} </tmp/big
for i in $(seq 8); do grep -q fd747269 /proc/net/if_inet6 && break; sleep 0.5; done
ping6 -c 1 fd74:7269:6b65::2
cat /sys/class/net/eth0/statistics/[rt]x_errors /sys/class/net/eth0/statistics/rx_crc_errors | tr '\\n' ' '
readlink /sys/class/net/eth0/device/driver
`;
    await using machine = run(generic.guest, text, "--net", `user,model=e1000,pcap=${folder}/p`);
    const { code, stdout, stderr } = await machine.end();
    assertEquals([code, stderr], [0, ""], stdout);
    assertMatch(stdout, /NIC Link is Up 1000 Mbps Full Duplex/);
    assertMatch(stdout, /^inet addr:10\.0\.2\.15$/m);
    assertMatch(stdout, new RegExp(`^${hash} `, "m"));
    assertEquals(await http.uploaded, hash);
    http.close();
    assertMatch(stdout, /1 packets received, 0% packet loss/);
    assertMatch(stdout, /^0 0 0 \S*\/e1000$/m);
    assert((await Deno.stat(`${folder}/p`)).size > 2 * BIG_BYTES);
    if (!tshark) return;
    const frames = async (filter: string) => {
      const args = [
        "-n",
        "-r",
        `${folder}/p`,
        "-o",
        "tcp.check_checksum:TRUE",
        "-Y",
        filter,
        "-T",
        "fields",
        "-e",
        "frame.number",
      ];
      const { stdout } = await new Deno.Command(tshark, { args, stderr: "null" }).output();
      return new TextDecoder().decode(stdout).split("\n").length - 1;
    };
    for (const some of ["arp", "dhcp.option.dhcp == 5", "http.response.code == 200", "icmpv6.type == 129"]) {
      assert(await frames(some) > 0, some);
    }
    // Of what the guest sends, the checksums are left to the card.
    for (const none of ["_ws.malformed", "tcp.checksum.status == 0 && ip.src == 10.0.2.2", "ip.checksum.status == 0"]) {
      assertEquals(await frames(none), 0, none);
    }
  }));

Deno.test({
  name: "two machines on a switch: one fetches from the other",
  ignore: cloud.ignore,
  ...leaky,
}, async () => {
  const name = `test-${Deno.pid}`;
  const card = (n: number) => `switch:${name},queues=2,mac=02:00:00:00:00:0${n}`;
  await using one = run(
    cloud.guest,
    `mkdir /tmp/w; echo from the other machine >/tmp/w/x; ifconfig eth0 192.168.9.1 up; httpd -p 80 -h /tmp/w; sleep 60`,
    "--net",
    card(1),
  );
  await using two = run(
    cloud.guest,
    `ifconfig eth0 192.168.9.2 up
for i in $(seq 60); do ping -c 1 -W 1 192.168.9.1 >/dev/null && break; done
for i in $(seq 20); do wget -q -O - http://192.168.9.1/x && break; sleep 0.2; done
ping -c 2 192.168.9.1
ls -d /sys/class/net/eth0/queues/tx-*`,
    "--net",
    card(2),
    "--cpus",
    "2",
  );
  const { code, stdout, stderr } = await two.end();
  assertEquals([code, stderr], [0, ""], stdout);
  assertMatch(stdout, /^from the other machine$/m);
  assertMatch(stdout, /2 packets received, 0% packet loss/);
  assertEquals(stdout.match(/queues\/tx-\d/g), ["queues/tx-0", "queues/tx-1"]);
  one.kill("SIGKILL");
});

const passt = await missingPackage(["passt"]);
if (passt !== null) console.log("skipped: passt behind --net stream: this host lacks Debian's package passt");
Deno.test({
  name: "passt behind a socket: an address from it, and a page from this host",
  ignore: cloud.ignore || passt !== null,
  ...leaky,
}, () =>
  withFolder(async (folder) => {
    await Deno.chmod(folder, 0o777); // it gives up root, if it has it
    const socket = `${folder}/s`;
    const helper = new Deno.Command("passt", { args: ["-f", "-1", "-s", socket], stdout: "null", stderr: "piped" })
      .spawn();
    const complaint = new Response(helper.stderr).text();
    const there = async () => (await Deno.stat(socket).catch(() => null)) !== null;
    for (let i = 0; i < 100 && !(await there()); i++) await new Promise((resolve) => setTimeout(resolve, 20));
    if (!(await there())) {
      try {
        helper.kill();
      } catch {
        // It has ended by itself.
      }
      return console.log(
        `skipped: passt behind --net stream: it does not start here: ${(await complaint).trim().slice(-200)}`,
      );
    }
    const big = pattern(1 << 20), http = server(big);
    const text = `
gateway=$(route -n | grep '^0.0.0.0' | tr -s ' ' | cut -d' ' -f2)
wget -q -O - http://$gateway:${http.port}/ | sha256sum
`;
    await using machine = run(cloud.guest, text, "--net", `stream:${socket}`);
    const { code, stdout, stderr } = await machine.end();
    http.close();
    try {
      helper.kill();
    } catch {
      // It ends with its client.
    }
    await helper.status;
    assertEquals([code, stderr], [0, ""], stdout);
    assertMatch(stdout, new RegExp(`^${await sha256(big)} `, "m"));
  }));
