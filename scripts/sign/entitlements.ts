/**
 * Entitlements, what a program asks of macOS: read from a property list, written as the DER that newer systems read beside it.
 *
 * Spec: plist(5) for the XML; ITU-T X.690 for DER. The values trike has: true, false, a string, an array of strings.
 */
import { ConfigError } from "../../src/base/errors.ts";

export type EntitlementValue = boolean | string | readonly string[];
export type Entitlements = Readonly<Record<string, EntitlementValue>>;

const TOKEN = /\s*(?:<(true|false)\s*\/>|<(key|string)>([^<]*)<\/\2>|<(\/?(?:dict|array))>|<(array|string)\s*\/>)\s*/y;
const ESCAPES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

/** The dictionary in a property list. Throws ConfigError for all that it cannot be sure to understand. */
export function parseEntitlements(xml: string): Entitlements {
  const body = /<plist[^>]*>([^]*)<\/plist>\s*$/.exec(xml.replace(/<!--[^]*?-->/g, ""))?.[1];
  if (body === undefined) throw new ConfigError("Cannot read the entitlements: expected a property list in XML");
  TOKEN.lastIndex = 0;
  const next = () => {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(body);
    if (!match) {
      const found = body.slice(at).trim().slice(0, 30);
      throw new ConfigError(
        `Cannot read the entitlements at "${found}": expected keys with true, false, a string or an array of strings`,
      );
    }
    const [, flag, element, text, tag, empty] = match;
    return { flag, element, text: unescape(text ?? ""), tag, empty };
  };
  const value = (token: ReturnType<typeof next>): EntitlementValue => {
    if (token.flag) return token.flag === "true";
    if (token.element === "string") return token.text;
    if (token.empty) return token.empty === "array" ? [] : "";
    const list: string[] = [];
    for (let item = next(); item.tag !== "/array"; item = next()) {
      if (item.element !== "string") {
        throw new ConfigError("Cannot read the entitlements: expected strings in an array");
      }
      list.push(item.text);
    }
    return list;
  };
  const found = new Map<string, EntitlementValue>();
  if (next().tag !== "dict") throw new ConfigError("Cannot read the entitlements: expected a dictionary");
  for (let token = next(); token.tag !== "/dict"; token = next()) {
    if (token.element !== "key") throw new ConfigError("Cannot read the entitlements: expected a key");
    const item = next();
    if (item.element === "key" || (item.tag !== undefined && item.tag !== "array")) {
      throw new ConfigError(`Cannot read the entitlements: expected a value of "${token.text}"`);
    }
    found.set(token.text, value(item));
  }
  return Object.fromEntries(found);
}

function unescape(text: string): string {
  return text.replace(/&(\w+);/g, (whole, name: string) => ESCAPES[name] ?? whole);
}

const BOOLEAN = 0x01, INTEGER = 0x02, UTF8_STRING = 0x0c, SEQUENCE = 0x30;
/** [APPLICATION 16] around all, [CONTEXT 16] around a dictionary, both constructed. */
const APPLICATION_16 = 0x70, CONTEXT_16 = 0xb0;

/** Version 1 and a dictionary: a sequence of a key and its value for each, in the order of the keys. */
export function derEntitlements(entitlements: Entitlements): Uint8Array<ArrayBuffer> {
  const keys = Object.keys(entitlements).sort();
  const pairs = keys.map((key) => element(SEQUENCE, text(key), derValue(entitlements[key]!)));
  return element(APPLICATION_16, element(INTEGER, Uint8Array.of(1)), element(CONTEXT_16, ...pairs));
}

function derValue(value: EntitlementValue): Uint8Array<ArrayBuffer> {
  if (typeof value === "boolean") return element(BOOLEAN, Uint8Array.of(value ? 0xff : 0));
  return typeof value === "string" ? text(value) : element(SEQUENCE, ...value.map(text));
}

function text(value: string): Uint8Array<ArrayBuffer> {
  return element(UTF8_STRING, new TextEncoder().encode(value));
}

/** Tag, length in as few bytes as there can be, contents. */
function element(tag: number, ...contents: Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const length = contents.reduce((sum, bytes) => sum + bytes.length, 0);
  const lengthBytes: number[] = [];
  if (length < 0x80) lengthBytes.push(length);
  else {
    for (let rest = length; rest > 0; rest >>>= 8) lengthBytes.unshift(rest & 0xff);
    lengthBytes.unshift(0x80 | lengthBytes.length);
  }
  return concat(Uint8Array.of(tag, ...lengthBytes), ...contents);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
