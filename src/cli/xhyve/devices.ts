/**
 * The devices of -s. Where they are on the bus is this board's to say: a slot decides only the order, in which a guest would
 * have found them.
 */
import { ConfigError } from "../../base/errors.ts";
import { hint, mistake, quoted } from "../values.ts";
import { commas, serialEnd, type Translation } from "./machine.ts";

interface Device {
  readonly bus: number;
  readonly slot: number;
  readonly func: number;
  readonly name: string;
  readonly config: string;
  /** As messages name it. */
  readonly called: string;
}

type Translate = (machine: Translation, device: Device) => void;

const ALWAYS_THERE: Translate = () => {};
const SECTOR_BYTES = 512;

const DEVICES: Readonly<Record<string, Translate>> = {
  hostbridge: ALWAYS_THERE,
  amd_hostbridge: ALWAYS_THERE,
  lpc: ALWAYS_THERE,
  "virtio-rnd": ALWAYS_THERE,
  "virtio-blk": (machine, device) => disk(machine, device, device.config, "virtio"),
  "ahci-hd": (machine, device) => disk(machine, device, device.config, "ahci"),
  "ahci-cd": (machine, device) => disk(machine, device, device.config, "cdrom"),
  ahci: (machine, device) => {
    // hd:FILE and cd:FILE, each with options of its own behind it
    for (const one of device.config.split(/,(?=hd:|cd:)/)) {
      const kind = one.slice(0, 3);
      if (kind !== "hd:" && kind !== "cd:") throw mistake(device.called, device.config, "hd:FILE or cd:FILE");
      disk(machine, device, one.slice(3), kind === "hd:" ? "ahci" : "cdrom");
    }
  },
  "virtio-net": (machine, device) => net(machine, device, "virtio"),
  "virtio-tap": (machine, device) => net(machine, device, "virtio"),
  "virtio-vmnet": (machine, device) => net(machine, device, "virtio"),
  e1000: (machine, device) => net(machine, device, "e1000"),
  "virtio-vpnkit": (machine, device) => {
    machine.note(device.called, "VPNKit is not asked; the network is trike's own, with a way out and no privileges");
    const mac = /(?:^|,)mac=([^,]+)/.exec(device.config)?.[1];
    net(machine, { ...device, config: mac === undefined ? "" : `mac=${mac}` }, "virtio");
  },
  fbuf: display,
  xhci: (machine, device) => machine.note(device.called, "there is no USB; the display's pointer is a PS/2 mouse"),
  uart: (machine, { called, config }) => {
    machine.pciSerial.push({ value: serialEnd(called, config, config), called });
  },
  "virtio-9p": folder,
  "virtio-sock": (machine, device) => machine.note(device.called, "there is no socket device in xhyve's form"),
  passthru: (_, device) => {
    throw new ConfigError(`${device.called}: devices of the host cannot be given away; expected none`);
  },
};

/** Reads one -s. Throws ConfigError. */
export function readDevice(text: string): Device {
  const [place, name = "", ...config] = text.split(",") as [string, ...string[]];
  const numbers = /^\d{1,3}(:\d{1,3}){0,2}$/.test(place) ? place.split(":").map(Number) : [];
  const [bus, slot, func] = numbers.length === 3 ? numbers : [0, numbers[0], numbers[1] ?? 0];
  if (slot === undefined || bus! > 255 || slot > 31 || func! > 7) {
    throw mistake("-s", text, "[bus:]slot[:function], of 0 to 255, 31 and 7, before the first comma");
  }
  if (!Object.hasOwn(DEVICES, name)) {
    const known = Object.keys(DEVICES);
    throw mistake("-s", text, `a device behind the slot, and ${quoted(name)} is none here${hint(name, known)}`);
  }
  return { bus: bus!, slot, func: func!, name, config: config.join(","), called: `-s ${place},${name}` };
}

export function addDevices(machine: Translation, devices: readonly Device[]): void {
  const place = ({ bus, slot, func }: Device) => (bus * 32 + slot) * 8 + func;
  const seen = new Map<number, Device>();
  for (const device of devices) {
    const other = seen.get(place(device));
    if (other) throw new ConfigError(`${device.called}: expected a slot of its own, and ${other.called} is there`);
    seen.set(place(device), device);
  }
  for (const device of [...devices].sort((a, b) => place(a) - place(b))) DEVICES[device.name]!(machine, device);
}

function disk(machine: Translation, { called }: Device, config: string, controller: string): void {
  const [file = "", ...words] = config.split(",");
  const path = file.startsWith("file://") ? decodeFileUrl(called, file) : file;
  if (path === "") throw mistake(called, config, "a file");
  // A file is what its option says, whatever its name.
  let format = "raw", readonly = controller === "cdrom";
  for (const word of words) {
    const equals = word.indexOf("="), key = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? "" : word.slice(equals + 1);
    if (word === "ro") readonly = true;
    else if (word === "nocache" || word === "direct") {
      machine.note(`${called},${word}`, "the host's cache is used, and a flush of the guest's reaches the disk");
    } else if (key === "sectorsize") {
      if (!/^512(\/\d+)?$/.test(value)) throw mistake(called, word, `sectors of ${SECTOR_BYTES} bytes`);
    } else if (word === "format=qcow") format = "qcow2";
    else if (word === "format=raw") format = "raw";
    else if (
      key === "size" || key === "split" || key === "qcow-config" || key === "stats_interval" || key === "qcow-tool"
    ) {
      machine.note(`${called},${key}`, "the file is taken as it is");
    } else if (word === "trim" || word === "notrim") {
      machine.note(`${called},${word}`, "storage that the guest gives back is given back to the host");
    } else throw mistake(called, word, "nocache, direct, ro, sectorsize=512 or format=qcow behind the file");
  }
  const where = controller === "virtio" ? "" : `,controller=${controller}`;
  const ro = readonly && controller !== "cdrom" ? ",readonly" : "";
  machine.add("disk", called, `${commas(path)}${ro},format=${format}${where}`);
}

function decodeFileUrl(called: string, url: string): string {
  try {
    return decodeURIComponent(url.slice("file://".length).replace(/^localhost(?=\/)/, ""));
  } catch {
    throw mistake(called, url, "a file:// address whose % signs stand before two digits");
  }
}

function net(machine: Translation, { called, config, name }: Device, model: string): void {
  if (machine.given.has("net")) {
    machine.note(called, "there is one network device, and it is the first");
    return;
  }
  let backend = "user", mac = "";
  for (const word of config.split(",").filter((word) => word !== "")) {
    if (word.startsWith("mac=")) mac = `,${word}`;
    else if (/^tap\d*$/.test(word)) backend = `tap:${word}`;
    else if (/^vmnet\d*$/.test(word)) backend = "vmnet";
    else if (name === "virtio-net" && /^\w+$/.test(word)) {
      machine.note(`${called},${word}`, "the network is trike's own; --net of 'trike run' leads it elsewhere");
    } else throw mistake(called, word, "tapN, vmnetN or mac=MAC");
  }
  if (name === "virtio-tap" && backend === "user") throw mistake(called, config, "a TAP device, such as tap0");
  machine.add("net", called, `${backend}${model === "virtio" ? "" : `,model=${model}`}${mac}`);
}

/** `TAG=DIR[,ro]`: a folder. hyperkit's form names a server instead. */
function folder(machine: Translation, { called, config }: Device): void {
  const [share = "", ...words] = config.split(",");
  const [, tag = "", path = ""] = /^([^=]+)=(.+)$/s.exec(share) ?? [];
  if (tag === "path" || tag === "port") {
    throw new ConfigError(`${called}: a 9P server elsewhere is not asked; expected TAG=DIR[,ro]`);
  }
  if (path === "" || words.some((word) => word !== "ro")) throw mistake(called, config, "TAG=DIR[,ro]");
  machine.add("share", called, `${commas(path)}:${tag}${words.length > 0 ? ",readonly" : ""}`);
}

function display(machine: Translation, { called, config }: Device): void {
  machine.add("vga", called);
  let vnc = "127.0.0.1:5900";
  for (const word of config.split(",").filter((word) => word !== "")) {
    const [key = "", value = ""] = word.split(/=(.*)/s);
    if (key === "tcp" || key === "rfb") vnc = value;
    else if (key === "w" || key === "h") machine.note(`${called},${key}=`, "the guest sets the display's size");
    else if (word === "wait") machine.note(`${called},wait`, "the machine starts before anybody looks");
    else if (key === "vga") machine.note(`${called},vga=`, "the display is compatible with VGA");
    else if (key === "password") {
      // Whoever asks for a password does not want to go without.
      throw new ConfigError(
        `${called}: a password is not taken from the command line; --vnc of 'trike run' has a file`,
      );
    } else throw mistake(called, word, "tcp=ADDRESS:PORT, w=, h=, vga= or wait");
  }
  machine.add("vnc", called, vnc.replace(/^:/, ""));
}
