/** `trike config --schema`: what a file with a machine may hold, as JSON Schema 2020-12, from the table of options. */
import { CONFIG_KEYS, takesNumber } from "./config.ts";
import { type ObjectForm, type Option, OPTION_BY_NAME } from "./options.ts";

type Schema = Record<string, unknown>;

export function configSchema(): Schema {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "A machine of trike's",
    description: "The options of 'trike run', without their dashes.",
    type: "object",
    properties: {
      $schema: { type: "string" },
      ...Object.fromEntries(CONFIG_KEYS.map((name) => [name, schemaOf(OPTION_BY_NAME[name]!)])),
    },
    additionalProperties: false,
  };
}

function schemaOf(option: Option): Schema {
  const description = option.help.map((line) => line.trim()).join(" ");
  if (option.value === undefined) return { description, type: "boolean" };
  const one = valueSchema(option);
  const about = { description, ...option.default === undefined ? {} : { default: defaultOf(option) } };
  return option.repeat ? { ...about, anyOf: [one, { type: "array", items: one }] } : { ...about, ...one };
}

/** One value; what the table says holds for its type alone, as JSON Schema has it: a pattern for text, limits for numbers. */
function valueSchema(option: Option): Schema {
  const types = [
    "string",
    ...takesNumber(option) ? [option.value === "SECONDS" ? "number" : "integer"] : [],
    ...option.object ? ["object"] : [],
  ];
  const type = types.length === 1 ? types[0] : types;
  return { type, ...option.schema, ...option.object ? objectSchema(option.object) : {} };
}

function objectSchema({ first, keys }: ObjectForm): Schema {
  const property = (kind: ObjectForm["keys"][string]): Schema => {
    if (kind === "switch") return { type: "boolean" };
    if (kind === "text") return { type: ["string", "number"] };
    return { enum: [...kind, ...kind.includes("on") ? [true, false] : []] };
  };
  return {
    properties: {
      [first]: { type: "string" },
      ...Object.fromEntries(Object.entries(keys).map(([key, kind]) => [key, property(kind)])),
    },
    required: [first],
    additionalProperties: false,
  };
}

function defaultOf(option: Option): unknown {
  const value = takesNumber(option) && /^\d+$/.test(option.default!) ? Number(option.default) : option.default;
  return option.repeat ? [value] : value;
}
