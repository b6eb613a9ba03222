/** The files of a switch: a socket, and a lock that says whose it is. */
import { HostError, messageOf } from "../../base/errors.ts";
import { runtimeFolder } from "../runtime_folder.ts";
import type { HostStream } from "./host_sockets.ts";
import type { SwitchHost } from "./switch_net.ts";

/** Throws HostError or ConfigError if there is no place for it. */
export function openSwitchHost(name: string, folder: string = runtimeFolder("for --net switch")): SwitchHost {
  try {
    Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new HostError(`Cannot make the folder "${folder}" for --net switch: ${messageOf(error)}`, { cause: error });
  }
  const path = `${folder}/${name}.switch`;
  return {
    serve(accepted) {
      const lock = Deno.openSync(`${path}.lock`, { write: true, create: true, mode: 0o600 });
      if (!lock.tryLockSync(true)) {
        lock.close();
        return null;
      }
      try {
        Deno.removeSync(path); // of somebody who is gone
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) {
          lock.close();
          throw error;
        }
      }
      let listener: Deno.UnixListener;
      try {
        listener = Deno.listen({ transport: "unix", path });
      } catch (error) {
        lock.close();
        throw error;
      }
      const run = async () => {
        for await (const conn of listener) accepted(conn);
      };
      run().catch(() => {});
      return {
        close() {
          listener.close();
          try {
            Deno.removeSync(path);
          } catch {
            // The next one does it.
          }
          lock.close();
        },
      };
    },
    connect: (): Promise<HostStream> => Deno.connect({ transport: "unix", path }),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  };
}
