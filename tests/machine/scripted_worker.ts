/** The Worker of a scripted vCPU: its URL's query names the script. */
import { serveVcpu } from "../../src/machine/vcpu_service.ts";
import { scriptedEngine } from "./scripted_guest.ts";
import { SCRIPTS } from "./scripts.ts";

const name = new URL(import.meta.url).searchParams.get("script")!;
serveVcpu(() => Promise.resolve(scriptedEngine(SCRIPTS[name as keyof typeof SCRIPTS])));
