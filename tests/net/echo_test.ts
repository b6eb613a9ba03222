/** Pings beyond the gateway, where the host gives everybody sockets for them: in a network namespace of the test's own. */
import { assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, ROOT, runGuest, script } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

/** Loop-back alone, with addresses that are elsewhere for a guest, and echoes for everybody. */
const NAMESPACE = `ip link set lo up && ip addr add 192.0.2.1/32 dev lo && ip addr add 2001:db8::1/128 dev lo &&
  echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range 2>/dev/null || echo "0 0" >/proc/sys/net/ipv4/ping_group_range`;

async function inNamespace(...command: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const args = ["--map-root-user", "--net", "sh", "-c", `${NAMESPACE}; exec "$@"`, "sh", ...command];
  const { code, stdout, stderr } = await new Deno.Command("unshare", { args, stdin: "null" }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout).replaceAll("\r", ""), stderr: text.decode(stderr) };
}

async function whyNoNamespace(): Promise<string | null> {
  if (Deno.build.os !== "linux") return "this is not Linux";
  try {
    const { code, stderr } = await inNamespace("true");
    return code === 0 && stderr === "" ? null : `no network namespace of our own: ${stderr.split("\n")[0]}`;
  } catch (error) {
    return String(error);
  }
}

const why = await whyNoNamespace();
if (why !== null) console.log(`skipped: pings beyond the gateway: ${why}`);

Deno.test({
  name:
    "a guest's pings of other hosts go out and come back, with their size and count; where nobody is, nobody answers",
  ignore: ignore || why !== null,
}, async () => {
  const text = `
for i in 1 2 3 4 5 6 7 8; do grep -q fd747269 /proc/net/if_inet6 && break; sleep 0.5; done
ping -c 3 -i 0.2 -s 1000 192.0.2.1
ping6 -c 2 -i 0.2 2001:db8::1
ping -c 1 -W 1 192.0.2.2 || echo unanswered`;
  const allow = ["--allow-read", "--allow-write", "--allow-env", "--allow-net", "--allow-ffi"];
  const trike = [Deno.execPath(), "run", "--quiet", "--no-prompt", "--no-check", ...allow, `${ROOT}src/main.ts`];
  const { code, stdout, stderr } = await inNamespace(...trike, ...runGuest(guest, script(text), "--net", "user"));
  assertEquals([code, stderr], [0, ""], stdout);
  assertMatch(stdout, /^1008 bytes from 192\.0\.2\.1: seq=2 /m);
  assertMatch(stdout, /^3 packets transmitted, 3 packets received, 0% packet loss$/m);
  assertMatch(stdout, /^64 bytes from 2001:db8::1: seq=1 /m);
  assertMatch(stdout, /^2 packets transmitted, 2 packets received, 0% packet loss$/m);
  assertMatch(stdout, /^unanswered$/m);
});
