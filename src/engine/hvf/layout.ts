/** Which guest-physical pages lead to which memory of the host: RAM and what the memory map puts in its place or after it. */
import { DEVICE, LEGACY_PAGES, type Mapping } from "../../base/memory_map.ts";

/** In pages of 4 KiB; `backing` counts from the start of guest RAM. */
export interface Stretch {
  readonly first: number;
  readonly pages: number;
  readonly backing: number;
  readonly writable: boolean;
}

/**
 * Stretches that do not overlap, in their order. RAM beside the pages below 1 MiB that may be something else is cut off there,
 * so that it stays as it is when those change. Without a map (null) RAM is one stretch.
 */
export function layoutOf(mappings: readonly Mapping[] | null, ramPages: number): Stretch[] {
  if (mappings === null) return [{ first: 0, pages: ramPages, backing: 0, writable: true }];
  const { first: legacy, end: legacyEnd } = LEGACY_PAGES;
  const edges = new Set([0, legacy, legacyEnd, ramPages]);
  for (const { first, pages } of mappings) edges.add(first).add(first + pages);
  const cuts = [...edges].sort((a, b) => a - b), list: Stretch[] = [];
  for (let i = 0; i + 1 < cuts.length; i++) {
    const first = cuts[i]!, end = cuts[i + 1]!;
    const ram = first < ramPages, open = !ram || (first >= legacy && first < legacyEnd);
    // Where pages overlap, the earlier mapping counts; RAM that the map may not touch is RAM.
    const over = open ? mappings.find((m) => first >= m.first && first < m.first + m.pages) : undefined;
    if (over ? over.backing === DEVICE : !ram) continue;
    const backing = over ? over.backing + first - over.first : first, writable = over?.writable ?? true;
    const last = list.at(-1);
    const joins = last && last.first + last.pages === first && last.backing + last.pages === backing &&
      last.writable === writable && first !== legacy && first !== legacyEnd;
    if (joins) list[list.length - 1] = { ...last, pages: last.pages + end - first };
    else list.push({ first, pages: end - first, backing, writable });
  }
  return list;
}

/** What of `from` is not in `to` as it is. */
export function without(from: readonly Stretch[], to: readonly Stretch[]): Stretch[] {
  return from.filter((a) =>
    !to.some((b) => a.first === b.first && a.pages === b.pages && a.backing === b.backing && a.writable === b.writable)
  );
}
