/** Debian packages: the reader's paths stay below the root, and what is damaged is the host's error. */
import { HostError } from "../../src/base/errors.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import type { Target } from "./target.ts";

export const debianPackage: Target = {
  name: "package",
  seeds: () => [], // the corpus has packages as dpkg-deb makes them
  async fuzz(bytes) {
    try {
      const deb = new DebPackage("fuzz", bytes);
      await deb.control();
      for (const path of (await deb.files(() => true)).keys()) {
        if (path.startsWith("/") || path.split("/").includes("..")) {
          throw new Error(`the path "${path}" leaves the root`);
        }
      }
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
    }
  },
};
