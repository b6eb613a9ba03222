import { assertEquals } from "@std/assert";
import { svgOf } from "./picture.ts";

/** Line by line, the runs of an SVG as [x in columns, text, fill, bold]. */
function runs(svg: string): [number, string, string, boolean][][] {
  return [...svg.matchAll(/<text y="\d+">(.*?)<\/text>/g)].map(([, line]) =>
    [...line!.matchAll(/<tspan x="([\d.]+)" textLength="[\d.]+"( fill="(#\w+)")?( font-weight="bold")?>([^<]*)</g)].map(
      (
        [, x, , fill, bold, text],
      ) => [Math.round((Number(x) - 14) / 8.4), text!, fill ?? "", bold !== undefined],
    )
  );
}

Deno.test("svgOf keeps colours and weight, and where a run begins", () => {
  assertEquals(runs(svgOf("a \x1b[1;32mgreen\x1b[0m z\n\x1b[91mred\x1b[39;1mbold\x1b[22mplain\n")), [
    [[0, "a ", "", false], [2, "green", "#a3be8c", true], [7, " z", "", false]],
    [[0, "red", "#e08088", false], [3, "bold", "", true], [7, "plain", "", false]],
  ]);
});

Deno.test("svgOf: a carriage return goes over the line again, a tab goes to the next stop", () => {
  assertEquals(runs(svgOf("12345\rab\r\nx\ty")), [[[0, "ab345", "", false]], [[0, "x       y", "", false]]]);
});

Deno.test("svgOf drops other sequences and escapes what XML would read", () => {
  assertEquals(runs(svgOf("\x1b[2J\x1b]0;title\x07\x1b[?25l<a & b>\x1b[K")), [[[0, "&lt;a &amp; b&gt;", "", false]]]);
});

Deno.test("svgOf: as wide as the longest line, as high as there are lines", () => {
  const size = (text: string) => /width="(\d+)" height="(\d+)"/.exec(svgOf(text))!.slice(1).map(Number);
  assertEquals(size("x".repeat(80) + "\n\n"), [Math.ceil(80 * 8.4 + 28), 46]);
  assertEquals(size("a\nb\nc"), [37, 82]);
});
