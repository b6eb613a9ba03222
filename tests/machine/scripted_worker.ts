/** The Worker of a scripted vCPU: the command line names the script. */
import { serveVcpu } from "../../src/machine/vcpu_service.ts";
import { scriptedEngine } from "./scripted_guest.ts";
import { SCRIPTS } from "./scripts.ts";

serveVcpu((spec) => Promise.resolve(scriptedEngine(SCRIPTS[spec.append as keyof typeof SCRIPTS])));
