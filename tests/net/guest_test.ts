/** Real clients in the default guest, and real servers on this host's loop-back. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createSocket } from "node:dgram";
import { guestOrSkip, pattern, script, sha256, Trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const BIG_BYTES = 50 << 20;
const PARALLEL = 100;
const NAME = "a.name.test";
const ADDRESS = [192, 0, 2, 55];

/** Answers every A query for NAME with ADDRESS, everything else with nothing. */
async function dnsServer() {
  const socket = createSocket("udp4");
  const asked: string[] = [];
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  socket.on("message", (query: Uint8Array, from: { port: number; address: string }) => {
    let at = 12;
    const labels: string[] = [];
    for (let n = query[at]!; n > 0; at += n + 1, n = query[at]!) {
      labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + n)));
    }
    const end = at + 5, isA = query[at + 2] === 1 && labels.join(".") === NAME;
    asked.push(labels.join("."));
    const record = isA ? [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...ADDRESS] : [];
    const answer = Uint8Array.from([...query.subarray(0, end), ...record]);
    answer[2] = 0x81;
    answer[3] = 0x80;
    answer[7] = isA ? 1 : 0;
    answer.fill(0, 8, 12);
    socket.send(answer, from.port, from.address);
  });
  return { port: socket.address().port, asked, close: () => socket.close() };
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

Deno.test(
  { name: "the default guest on the network", ignore, sanitizeResources: false, sanitizeOps: false },
  () =>
    withFolder(async (folder) => {
      const big = pattern(BIG_BYTES);
      const hash = await sha256(big);
      const waiting: ((r: Response) => void)[] = [];
      const fetched = Promise.withResolvers<void>();
      let served = "";
      const published = freePort();
      const fetchFromGuest = async () => {
        served = await (await fetch(`http://127.0.0.1:${published}/x`)).text();
        fetched.resolve();
      };
      const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
        switch (new URL(request.url).pathname) {
          case "/big":
            return new Response(big);
          case "/together": // nobody is answered before all are there
            return await new Promise<Response>((resolve) => {
              waiting.push(resolve);
              if (waiting.length === PARALLEL) { for (const answer of waiting) answer(new Response("together\n")); }
            });
          case "/ready":
            fetchFromGuest().catch((error) => fetched.reject(error));
            await fetched.promise;
            return new Response("fetched\n");
          default:
            return new Response("none", { status: 404 });
        }
      });
      const upload = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const uploaded = (async () => {
        using conn = await upload.accept();
        const bytes = new Uint8Array(BIG_BYTES + 1);
        let at = 0;
        for (let n = await conn.read(bytes); n !== null; n = await conn.read(bytes.subarray(at))) at += n;
        await conn.write(new TextEncoder().encode("got it\n"));
        return await sha256(bytes.slice(0, at));
      })();
      const dns = await dnsServer();
      const url = `http://10.0.2.2:${http.addr.port}`;
      const text = `
ifconfig eth0 | grep -o 'inet addr:[0-9.]*'
route -n | grep '^0.0.0.0'
cat /etc/resolv.conf
ping -c 2 10.0.2.2
nslookup ${NAME}
read -r up rest </proc/uptime; echo down-begins $up
wget -q -O /tmp/big ${url}/big
read -r up rest </proc/uptime; echo down-ends $up
nc 10.0.2.2 ${upload.addr.port} </tmp/big
read -r up rest </proc/uptime; echo up-ends $up
sha256sum </tmp/big
for i in $(seq ${PARALLEL}); do wget -q -O - ${url}/together & done >/tmp/together
wait
echo parallel $(grep -c together /tmp/together)
mkdir /tmp/www; echo from the guest >/tmp/www/x; httpd -p 80 -h /tmp/www
wget -q -O - ${url}/ready
wget -q -O - http://10.0.2.2:1/ || echo refused
`;
      const pcap = `${folder}/net.pcap`;
      const net = ["--net", `user,pcap=${pcap},dns=127.0.0.1:${dns.port}`, "--publish", `${published}:80`];
      const boot = ["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", `${guest.append} ${script(text)}`];
      const allow = ["--allow-read", "--allow-write", "--allow-env", "--allow-net=127.0.0.1,0.0.0.0,10.0.2.2"];
      await using run = new Trike(["run", "-q", "--engine", "soft", "--timeout", "400", ...boot, ...net], allow);
      const { code, stdout, stderr } = await run.end();
      await http.shutdown();
      dns.close();
      upload.close();
      console.log(stdout.match(/\w+-(begins|ends) [\d.]+/g)?.join(", ") ?? "");

      assertEquals([code, stderr], [0, ""], stdout);
      assertMatch(stdout, /^inet addr:10\.0\.2\.15$/m);
      assertMatch(stdout, /^0\.0\.0\.0 +10\.0\.2\.2 /m);
      assertMatch(stdout, /^nameserver 10\.0\.2\.3$/m);
      assertMatch(stdout, /2 packets received, 0% packet loss/);
      assertMatch(stdout, new RegExp(`Address.*${ADDRESS.join("\\.")}`));
      assert(dns.asked.includes(NAME));
      assertMatch(stdout, new RegExp(`^${hash} `, "m"));
      assertEquals(await uploaded, hash);
      assertMatch(stdout, /^got it$/m);
      assertMatch(stdout, new RegExp(`^parallel ${PARALLEL}$`, "m"));
      assertEquals(served, "from the guest\n");
      assertMatch(stdout, /^fetched$/m);
      assertMatch(stdout, /^refused$/m);
      await checkPcap(pcap);
    }),
);

/** Follows the records to the end of the file: every length fits, time does not run back by much. */
async function checkPcap(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  assertEquals([view.getUint32(0, true), view.getUint32(20, true)], [0xa1b2c3d4, 1]);
  const types = new Map<number, number>();
  let at = 24;
  while (at < bytes.length) {
    const size = view.getUint32(at + 8, true);
    assertEquals(size, view.getUint32(at + 12, true));
    const type = view.getUint16(at + 16 + 12);
    types.set(type, (types.get(type) ?? 0) + 1);
    at += 16 + size;
  }
  assertEquals(at, bytes.length);
  assert((types.get(0x0806) ?? 0) > 0 && (types.get(0x0800) ?? 0) > 1000, JSON.stringify([...types]));
}
