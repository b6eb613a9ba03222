/** Real clients in a guest against servers on this host's loop-back, and what tshark makes of their frames. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createSocket } from "node:dgram";
import { missingPackage, pathOf, withHostPrograms } from "../../scripts/bench/host_programs.ts";
import { guestOrSkip, script, Trike, withFolder } from "../boot/guests.ts";

const { guest, ignore: noGuest } = await guestOrSkip("cloud");
const PROGRAMS = ["curl", "dig", "ping", "perl"] as const;
const missing = Deno.build.os === "linux" ? await missingPackage(PROGRAMS) : "none: this is not Linux";
if (missing !== null) {
  console.log(`skipped: curl, dig, ping and perl in a guest: this host lacks Debian's package ${missing}`);
}
const ignore = noGuest || missing !== null;
const leaky = { ignore, sanitizeResources: false, sanitizeOps: false };

const CLIENTS = 4, EACH = 250;
const NAME = "a.name.test",
  ADDRESS = [192, 0, 2, 55],
  ADDRESS6 = [0x20, 1, 0xd, 0xb8, ...new Array<number>(11).fill(0), 7];
const GATEWAY6 = "fd74:7269:6b65::2", RESOLVER6 = "fd74:7269:6b65::3";

/** Answers whoever sends something to port 7; without a module, which the guest has not. */
const UDP_SERVER = `
socket(S, 2, 2, 0) && bind(S, pack("Sna4x8", 2, 7, "")) or die $!;
open(F, ">", "/tmp/bound");
while (defined($from = recv(S, $_, 2048, 0))) { send(S, "the guest heard: $_", 0, $from) or die $! }`;

/** Sends a datagram to a port of this host's, and resolves with the answer. */
async function askByUdp(port: number, words: string): Promise<string> {
  const socket = createSocket("udp4");
  const answer = new Promise<string>((resolve) =>
    socket.once("message", (bytes: Uint8Array) => resolve(decode(bytes)))
  );
  socket.send(words, port, "127.0.0.1");
  const late = setTimeout(() => socket.emit("message", new TextEncoder().encode("no answer")), 20_000);
  try {
    return await answer;
  } finally {
    clearTimeout(late);
    socket.close();
  }
}

const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Whether this host has an IPv6 loop-back address. */
function hasIp6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    console.log("skipped: servers on ::1: this host has no IPv6");
    return false;
  }
}

/** A and AAAA records of NAME, to whoever asks. */
function answerQuery(query: Uint8Array): Uint8Array {
  let at = 12;
  const labels: string[] = [];
  for (let n = query[at]!; n > 0; at += n + 1, n = query[at]!) {
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + n)));
  }
  const end = at + 5, type = query[at + 2]!;
  const data = labels.join(".") !== NAME ? null : type === 1 ? ADDRESS : type === 28 ? ADDRESS6 : null;
  const record = data ? [0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, data.length, ...data] : [];
  const answer = Uint8Array.from([...query.subarray(0, end), ...record]);
  answer.set([0x81, 0x80, 0, 1, 0, data ? 1 : 0, 0, 0, 0, 0], 2);
  return answer;
}

/** A resolver at one port of UDP and TCP. */
async function resolver() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(port, "127.0.0.1", resolve));
  socket.on("message", (query: Uint8Array, from: { port: number; address: string }) => {
    socket.send(answerQuery(query), from.port, from.address);
  });
  (async () => {
    for await (const conn of listener) {
      const buffer = new Uint8Array(1024);
      const n = await conn.read(buffer) ?? 0;
      if (n > 2) {
        const answer = answerQuery(buffer.subarray(2, n));
        await conn.write(Uint8Array.from([answer.length >> 8, answer.length & 255, ...answer]));
      }
      conn.close();
    }
  })().catch(() => {});
  return {
    port,
    close() {
      socket.close();
      listener.close();
    },
  };
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

Deno.test({
  name: "curl, dig and ping over IPv4 and IPv6, a thousand connections at once, forwards from the host",
  ...leaky,
}, () =>
  withFolder(async (folder) => {
    const six = hasIp6();
    const initrd = await withHostPrograms(guest.initrd, PROGRAMS, folder);
    const waiting: ((r: Response) => void)[] = [];
    let most = 0;
    const [tcpPort, udpPort] = [freePort(), freePort()];
    let fromHost = "";
    const answers: string[] = [];
    const askGuest = async () => {
      fromHost = await (await fetch(`http://127.0.0.1:${tcpPort}/x`)).text();
      // Two clients at once, and each is answered.
      answers.push(...await Promise.all(["from the host", "from another"].map((words) => askByUdp(udpPort, words))));
    };
    const handler = async (request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>) => {
      const { pathname } = new URL(request.url);
      if (pathname.startsWith("/together")) { // nobody is answered before all are there
        return await new Promise<Response>((resolve) => {
          most = Math.max(most, waiting.push(resolve));
          if (waiting.length < CLIENTS * EACH) return;
          for (const answer of waiting.splice(0)) answer(new Response("together\n"));
        });
      }
      if (pathname === "/ready") {
        await askGuest();
        return new Response("forwarded\n");
      }
      return new Response(`seen ${info.remoteAddr.hostname}\n`);
    };
    const ending = new AbortController(), { signal } = ending;
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, signal, onListen() {} }, handler);
    const http6 = six ? Deno.serve({ hostname: "::1", port: 0, signal, onListen() {} }, handler) : null;
    const dns = await resolver();
    const text = `
export PATH=/host:$PATH
url=http://10.0.2.2:${http.addr.port}
for i in 1 2 3 4 5 6 7 8; do grep -q fd747269 /proc/net/if_inet6 && break; sleep 0.5; done
echo own-addresses $(grep -c fd747269 /proc/net/if_inet6)
(perl -e '${UDP_SERVER}' &) # not a job that 'wait' waits for
until [ -e /tmp/bound ]; do sleep 0.1; done
/host/ping -c 2 -i 0.2 10.0.2.2; /host/ping -c 2 -i 0.2 ${GATEWAY6}
dig +short @10.0.2.3 ${NAME} A; dig +short +tcp @10.0.2.3 ${NAME} AAAA; dig +short @${RESOLVER6} ${NAME} A
curl -s $url/; curl -s "http://[${GATEWAY6}]:${http.addr.port}/"
${six ? `curl -s "http://[${GATEWAY6}]:${http6!.addr.port}/"` : ""}
ulimit -n 4096
for n in $(seq ${CLIENTS}); do
  curl -s --no-progress-meter -Z --parallel-immediate --parallel-max ${EACH} "$url/together/[1-${EACH}]" >/tmp/together.$n &
done
wait
echo at-once $(cat /tmp/together.* | grep -c together)
mkdir /tmp/www; echo from the guest >/tmp/www/x; httpd -p 80 -h /tmp/www
curl -s $url/ready
curl -s -m 5 http://10.0.2.2:1/ || echo refused $?
`;
    const pcap = `${folder}/net.pcap`;
    const net = ["--net", `user,pcap=${pcap},dns=127.0.0.1:${dns.port}`];
    net.push("--publish", `${tcpPort}:80`, "--publish", `${udpPort}:7/udp`);
    const boot = ["--kernel", guest.kernel, "--initrd", initrd, "--append", `${guest.append} ${script(text)}`];
    const allow = ["--allow-read", "--allow-write", "--allow-env", "--allow-net"];
    await using run = new Trike(["run", "-q", "--engine", "soft", "--timeout", "90", ...boot, ...net], allow);
    const { code, stdout, stderr } = await run.end();
    ending.abort();
    dns.close();

    assertEquals([code, stderr], [0, ""], stdout);
    assertMatch(stdout, /^own-addresses 1$/m, "an address in the network's prefix, by autoconfiguration");
    assertEquals(stdout.match(/ 0% packet loss/g)?.length, 2, stdout);
    assertEquals(stdout.match(/^192\.0\.2\.55$/gm)?.length, 2, stdout);
    assertMatch(stdout, /^2001:db8::7$/m);
    assertEquals(stdout.match(/^seen 127\.0\.0\.1$/gm)?.length, 2, stdout);
    if (six) assertMatch(stdout, /^seen ::1$/m);
    assertMatch(stdout, new RegExp(`^at-once ${CLIENTS * EACH}$`, "m"));
    assertEquals(most, CLIENTS * EACH);
    assertMatch(stdout, /^forwarded$/m);
    assertEquals(fromHost, "from the guest\n");
    assertEquals(answers, ["the guest heard: from the host", "the guest heard: from another"]);
    assertMatch(stdout, /^refused 7$/m);
    await checkWithTshark(pcap);
  }));

/** What Wireshark's dissectors say of the frames. */
async function checkWithTshark(pcap: string): Promise<void> {
  const tshark = await pathOf("tshark");
  if (tshark === null) return console.log("skipped: reading the frames: this host lacks Debian's package tshark");
  const ask = async (filter: string, ...fields: string[]) => {
    const args = ["-r", pcap, "-Y", filter, "-T", "fields", ...fields.flatMap((f) => ["-e", f])];
    const { stdout, success } = await new Deno.Command(tshark, { args, stderr: "null" }).output();
    assert(success, `tshark ${filter}`);
    return new TextDecoder().decode(stdout).trim().split("\n").filter((line) => line !== "");
  };
  assertEquals(await ask("_ws.malformed || ip.checksum.status == 0", "frame.number"), []);
  assert((await ask("icmpv6.type == 134", "icmpv6.opt.prefix", "icmpv6.opt.rdnss")).includes(
    "fd74:7269:6b65::\tfd74:7269:6b65::3",
  ));
  assertEquals((await ask("dhcp.option.dhcp == 5", "dhcp.ip.your"))[0], "10.0.2.15");
  assertEquals((await ask("udp.dstport == 7 && !icmp", "ip.src", "udp.length")).sort().reverse(), [
    "10.0.2.2\t21",
    "10.0.2.2\t20",
  ]);
  assert((await ask("dns.flags.response == 1", "dns.a")).includes("192.0.2.55"));
  assert(
    (await ask("tcp.flags.syn == 1 && tcp.flags.ack == 1 && ip.src == 10.0.2.2", "tcp.options.sack_perm")).length >
      1000,
  );
}
