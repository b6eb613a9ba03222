import { assertEquals } from "@std/assert";
import { TestIrq } from "../src/base/irq.ts";
import { I8042, I8042Record } from "./i8042.ts";
import { Ps2KeyboardRecord, set1OfSet2 } from "./ps2_keyboard.ts";
import { Ps2MouseRecord } from "./ps2_mouse.ts";

function controller() {
  const irq1 = new TestIrq(), irq12 = new TestIrq(), a20 = new TestIrq();
  const count = { resets: 0 };
  const dev = new I8042(
    { controller: I8042Record.create(), keyboard: Ps2KeyboardRecord.create(), mouse: Ps2MouseRecord.create() },
    { irq1, irq12, a20, onReset: () => count.resets++ },
  );
  dev.settle();
  const data = (byte: number) => dev.data.write(0, 1, byte);
  const command = (byte: number, ...args: number[]) => {
    dev.command.write(0, 1, byte);
    args.forEach(data);
  };
  const status = () => dev.command.read(0, 1);
  command(0x60, 0); // no translation, no interrupts
  /** Everything the output buffer gives, up to 64 bytes. */
  const drain = () => {
    const bytes: number[] = [];
    while (status() & 1 && bytes.length < 64) bytes.push(dev.data.read(0, 1));
    return bytes;
  };
  const keyboard = (...bytes: number[]) => bytes.flatMap((b) => (data(b), drain()));
  const mouse = (...bytes: number[]) => bytes.flatMap((b) => (command(0xd4, b), drain()));
  return { dev, irq1, irq12, a20, count, data, command, status, drain, keyboard, mouse };
}

Deno.test("The controller passes its tests and sets SYS", () => {
  const { command, drain, status } = controller();
  assertEquals(status(), 0x10);
  command(0xaa);
  assertEquals(status(), 0x1d); // OBF, SYS, last write was a command, not locked
  assertEquals(drain(), [0x55]);
  for (const [test, answer] of [[0xab, 0], [0xa9, 0], [0xa4, 0xf1]] as const) {
    command(test);
    assertEquals(drain(), [answer]);
  }
});

Deno.test("The configuration byte and RAM read back; AD, AE, A7 and A8 are its bits", () => {
  const { command, drain } = controller();
  const config = () => (command(0x20), drain());
  command(0x60, 0x47);
  command(0x7f, 0x99);
  command(0x3f);
  assertEquals([drain(), config()], [[0x99], [0x47]]);
  command(0xad);
  command(0xa7);
  assertEquals(config(), [0x77]);
  command(0xae);
  command(0xa8);
  assertEquals(config(), [0x47]);
});

Deno.test("A20 follows the output port", () => {
  const { a20, command, drain } = controller();
  assertEquals(a20.level, true);
  command(0xd1, 0x01);
  assertEquals(a20.level, false);
  command(0xdf);
  assertEquals(a20.level, true);
  command(0xdd);
  assertEquals(a20.level, false);
  command(0xd0);
  assertEquals(drain(), [0xc1]);
  command(0xd0);
  command(0xd1, 0x03);
  assertEquals([a20.level, drain()], [true, [0xc1]]);
});

Deno.test("FEh pulses reset, FFh pulses nothing, the output port can hold reset", () => {
  const { command, count } = controller();
  command(0xff);
  assertEquals(count.resets, 0);
  command(0xfe);
  assertEquals(count.resets, 1);
  command(0xd1, 0x02);
  assertEquals(count.resets, 2);
});

Deno.test("The keyboard answers the standard commands", () => {
  const { keyboard, dev } = controller();
  const cases: [number[], number[]][] = [
    [[0xff], [0xfa, 0xaa]],
    [[0xf2], [0xfa, 0xab, 0x83]],
    [[0xee], [0xee]],
    [[0xed, 0x05], [0xfa, 0xfa]],
    [[0xf3, 0x20], [0xfa, 0xfa]],
    [[0xf0, 0x00], [0xfa, 0xfa, 0x02]],
    [[0xf0, 0x01], [0xfa, 0xfa]],
    [[0xf0, 0x00], [0xfa, 0xfa, 0x01]],
    [[0xf0, 0x03], [0xfa, 0xfe]],
    [[0xf6], [0xfa]],
    [[0xf0, 0x00], [0xfa, 0xfa, 0x02]],
    [[0xfe], [0x02]],
    [[0xf5], [0xfa]],
    [[0xf4], [0xfa]],
    [[0xef], [0xfe]],
    [[0xed, 0xf2], [0xfa, 0xfa, 0xab, 0x83]], // a command in place of the argument
    [[0xfb, 0x1c, 0x1b, 0xf4], [0xfa, 0xfa, 0xfa, 0xfa]],
  ];
  for (const [sent, answer] of cases) assertEquals(keyboard(...sent), answer, sent.join());
  assertEquals(dev.keyboard.leds, 5);
});

Deno.test("Keys come as set 2, or translated to set 1 with XLAT, or as set 1 of the keyboard's own", () => {
  const { dev, command, drain, keyboard } = controller();
  const keys = [[0x1c], [0xf0, 0x1c], [0xe0, 0x75], [0xe0, 0xf0, 0x75], [0x83], [0xf0, 0x83]];
  const press = () => keys.flatMap((codes) => (dev.injectKey(codes), drain()));
  const set1 = [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41, 0xc1];
  assertEquals(press(), keys.flat());
  command(0x60, 0x40);
  assertEquals(press(), set1);
  command(0x60, 0x00);
  keyboard(0xf0, 0x01);
  assertEquals(press(), set1);
});

Deno.test("The translation agrees with the two columns of the scan code tables", () => {
  // key: set 2, set 1
  const keys = {
    escape: [0x76, 0x01],
    digit1: [0x16, 0x02],
    digit0: [0x45, 0x0b],
    backspace: [0x66, 0x0e],
    q: [0x15, 0x10],
    p: [0x4d, 0x19],
    enter: [0x5a, 0x1c],
    control: [0x14, 0x1d],
    l: [0x4b, 0x26],
    z: [0x1a, 0x2c],
    m: [0x3a, 0x32],
    slash: [0x4a, 0x35],
    rightShift: [0x59, 0x36],
    space: [0x29, 0x39],
    f1: [0x05, 0x3b],
    f7: [0x83, 0x41],
    f10: [0x09, 0x44],
    f12: [0x07, 0x58],
    keypad7: [0x6c, 0x47],
    keypadDot: [0x71, 0x53],
  };
  for (const [key, [set2, set1]] of Object.entries(keys)) assertEquals(set1OfSet2(set2!), set1, key);
  // One to one, but for the two keys that have a second code.
  assertEquals(new Set(Array.from({ length: 128 }, (_, code) => set1OfSet2(code))).size, 128);
  assertEquals([0xaa, 0xfa, 0xe0, 0xfe].map(set1OfSet2), [0xaa, 0xfa, 0xe0, 0xfe]);
});

Deno.test("IRQ 1 rises for each byte and falls when it is read; INT gates it", () => {
  const { dev, irq1, irq12, command } = controller();
  dev.injectKey([0x1c]);
  assertEquals(irq1.level, false);
  command(0x60, 0x01);
  assertEquals([irq1.level, irq1.rises], [true, 1]);
  dev.injectKey([0xf0, 0x1c]);
  dev.data.read(0, 1);
  assertEquals([irq1.level, irq1.rises], [true, 2]);
  dev.data.read(0, 1);
  dev.data.read(0, 1);
  assertEquals([irq1.level, irq1.rises, irq12.rises], [false, 3, 0]);
});

Deno.test("A disabled interface holds its bytes back", () => {
  const { dev, command, status, drain, keyboard } = controller();
  command(0xad);
  dev.injectKey([0x1c]);
  assertEquals(status() & 1, 0);
  command(0xae);
  assertEquals(drain(), [0x1c]);
  command(0xad);
  assertEquals(keyboard(0xee), [0xee]); // talking to it enables it
});

Deno.test("A full keyboard buffer ends in one overrun code and still answers commands", () => {
  const { dev, drain, keyboard } = controller();
  for (let i = 0; i < 100; i++) dev.injectKey([0x1c]);
  const bytes = drain();
  assertEquals(bytes, [...Array(16).fill(0x1c), 0x00]); // one in the controller, fifteen in the keyboard
  for (let i = 0; i < 100; i++) dev.injectKey([0x1c]);
  assertEquals(keyboard(0xed, 0x00).slice(-2), [0xfa, 0xfa]);
});

Deno.test("The mouse answers the standard commands, and the rate sequences tell its kind", () => {
  const { mouse } = controller();
  const cases: [number[], number[]][] = [
    [[0xff], [0xfa, 0xaa, 0x00]],
    [[0xf2], [0xfa, 0x00]],
    [[0xe9], [0xfa, 0x00, 0x02, 100]],
    [[0xe8, 3, 0xf3, 40, 0xe7, 0xf4, 0xe9], [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0x30, 3, 40]],
    [[0xe8, 9], [0xfa, 0xfe]],
    [[0xf6, 0xe9], [0xfa, 0xfa, 0x00, 0x02, 100]],
    [[0xe7, 0xe6, 0xe9], [0xfa, 0xfa, 0xfa, 0x00, 0x02, 100]],
    [[0xee], [0xfa]],
    [[0xf2, 0x12], [0xf2, 0x12]],
    [[0xec], [0xfa]],
    [[0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2], [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0x03]],
    [[0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2], [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0x04]],
    [[0xff, 0xf2], [0xfa, 0xaa, 0x00, 0xfa, 0x00]],
    [[0xd0], [0xfe]],
  ];
  for (const [sent, answer] of cases) assertEquals(mouse(...sent), answer, sent.join());
});

Deno.test("The mouse reports movement in packets with AUX_OBF and IRQ 12, when told to", () => {
  const { dev, mouse, command, drain, status, irq1, irq12 } = controller();
  dev.injectMouse(5, 5, 0, 1);
  assertEquals(status() & 1, 0);
  mouse(0xf4);
  command(0x60, 0x03);
  dev.injectMouse(3, -2, 0, 1);
  assertEquals([status() & 0x21, irq12.level, irq1.level], [0x21, true, false]);
  assertEquals(drain(), [0x29, 3, 0xfe]);
  assertEquals([irq12.level, irq1.rises], [false, 0]);
  dev.injectMouse(-300, 0, 0, 0);
  assertEquals(drain(), [0x18, 0x01, 0, 0x18, 0xd3, 0]);
  mouse(0xf3, 200, 0xf3, 100, 0xf3, 80);
  dev.injectMouse(0, 0, -1, 4);
  assertEquals(drain(), [0x0c, 0, 0, 0xff]);
});

Deno.test("Movement adds up while nobody reads, and no packet is torn", () => {
  const { dev, mouse, drain } = controller();
  mouse(0xf4);
  for (let i = 0; i < 1000; i++) dev.injectMouse(1, 0, 0, 0);
  const bytes = drain();
  assertEquals(bytes.length % 3, 0);
  let moved = 0;
  for (let i = 0; i < bytes.length; i += 3) moved += bytes[i + 1]!;
  assertEquals(moved, 1000);
});

Deno.test("In remote mode the mouse speaks when asked", () => {
  const { dev, mouse, drain } = controller();
  mouse(0xf4, 0xf0);
  dev.injectMouse(1, 2, 0, 2);
  assertEquals([drain(), mouse(0xeb)], [[], [0xfa, 0x0a, 1, 2]]);
});

Deno.test("D2h and D3h put a byte where the guest finds it", () => {
  const { command, status, drain, irq12 } = controller();
  command(0x60, 0x03);
  command(0xd3, 0x5a);
  assertEquals([status() & 0x21, irq12.level, drain()], [0x21, true, [0x5a]]);
  command(0xd2, 0xa5);
  assertEquals([status() & 0x21, drain()], [0x01, [0xa5]]);
});

Deno.test("Port 60h keeps its last byte", () => {
  const { command, drain, dev } = controller();
  command(0xaa);
  drain();
  assertEquals(dev.data.read(0, 1), 0x55);
});

Deno.test("The controller starts with translation on and both interfaces enabled", () => {
  assertEquals(I8042Record.create().config, 0x40);
});
