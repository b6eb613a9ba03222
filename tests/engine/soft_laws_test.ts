import { softEngine } from "../../src/engine/soft/soft.ts";
import { engineLaws } from "./engine_laws.ts";

engineLaws({ engine: softEngine });
