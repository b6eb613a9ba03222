/** The bindings of KVM against the C compiler's view of the kernel's own header. */
import { assertEquals } from "@std/assert";
import * as kvm from "../../ffi/kvm.ts";
import * as libc from "../../ffi/libc.ts";

const HEADER = "/usr/include/linux/kvm.h";

/** Lines of a C program that prints `name value`, and what they should print. */
function expectations(): Map<string, number> {
  const all = new Map<string, number>();
  const expect = (expression: string, value: number) => all.set(expression, value);
  for (const [name, value] of Object.entries(kvm)) {
    if (typeof value === "number") {
      if (name !== "KVM_CPUID_SIGNATURE" && name !== "KVM_CPUID_FEATURES") expect(name, value);
      continue;
    }
    if (typeof value === "string") continue;
    for (const [field, at] of Object.entries(value)) {
      if (name === "KVM_EXIT" || name === "KVM_CAP" || name === "KVM_FEATURE") expect(`${name}_${field}`, at);
      else if (field === "SIZEOF") expect(`sizeof(struct ${name})`, at);
      else expect(`offsetof(struct ${name}, ${memberOf(name, field)})`, at);
    }
  }
  for (const name of ["KVM_CPUID_SIGNATURE", "KVM_CPUID_FEATURES"] as const) expect(name, kvm[name]);
  expect("sizeof(sigset_of_kernel)", libc.SIZEOF_SIGSET);
  expect("sizeof(struct itimerspec)", libc.SIZEOF_ITIMERSPEC);
  expect("offsetof(struct itimerspec, it_interval)", libc.IT_INTERVAL);
  expect("offsetof(struct itimerspec, it_value)", libc.IT_VALUE);
  expect("sizeof(struct sigevent)", libc.SIZEOF_SIGEVENT);
  expect("offsetof(struct sigevent, sigev_signo)", libc.SIGEV_SIGNO);
  expect("offsetof(struct sigevent, sigev_notify)", libc.SIGEV_NOTIFY);
  const plain = [
    "O_RDWR",
    "O_CLOEXEC",
    "PROT_READ",
    "PROT_WRITE",
    "MAP_SHARED",
    "SIGUSR1",
    "SIG_BLOCK",
    "SIG_UNBLOCK",
    "CLOCK_MONOTONIC",
    "SIGEV_THREAD_ID",
    "SYS_rt_sigprocmask",
    "SYS_rt_sigtimedwait",
    "SYS_gettid",
    "SYS_timer_create",
    "SYS_timer_settime",
    "SYS_timer_delete",
    "SYS_clock_gettime",
    "SYS_tgkill",
  ] as const;
  for (const name of plain) expect(name, libc[name]);
  for (const [name, value] of Object.entries(libc)) {
    if (/^E[A-Z0-9]+$/.test(name)) expect(name, value as number);
  }
  return all;
}

/** The C name of a member: dots where the binding flattens nested structures. */
function memberOf(struct: string, field: string): string {
  if (struct === "kvm_run") {
    return field.replace(/^(hw|fail_entry|io|mmio|internal|emulation_failure|msr|system_event|eoi)_/, "$1.");
  }
  if (struct === "kvm_irq_routing_entry") return field.replace(/^u_(irqchip|msi)_/, "u.$1.");
  if (struct === "kvm_vcpu_events") {
    return field.replace(/^(exception|interrupt|nmi|smi)_/, "$1.");
  }
  return field;
}

Deno.test({
  name: "every constant, offset and size of the binding is the C compiler's",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64" || !exists(HEADER) || !exists("/usr/bin/cc"),
  async fn() {
    const all = expectations();
    const dir = await Deno.makeTempDir();
    try {
      const lines = [...all.keys()].map((e) => `  printf("%llu\\n", (unsigned long long)(${e}));`);
      const source = `#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/kvm.h>
#include <asm/kvm_para.h>
typedef struct { unsigned long word; } sigset_of_kernel;
int main(void) {
${lines.join("\n")}
  return 0;
}
`;
      await Deno.writeTextFile(`${dir}/probe.c`, source);
      const compiled = await new Deno.Command("cc", { args: ["-w", "-o", `${dir}/probe`, `${dir}/probe.c`] }).output();
      assertEquals(new TextDecoder().decode(compiled.stderr), "");
      const run = await new Deno.Command(`${dir}/probe`).output();
      const values = new TextDecoder().decode(run.stdout).trim().split("\n").map(Number);
      const found = Object.fromEntries([...all.keys()].map((name, i) => [name, values[i]]));
      assertEquals(Object.fromEntries(all), found);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
