/** Prints the default guest, or the error, in a process of its own: with permissions and surroundings of its caller's choice. */
import { messageOf } from "../../src/base/errors.ts";
import { defaultGuest } from "../../src/guest/default_guest.ts";

try {
  console.log(JSON.stringify(await defaultGuest(() => {})));
} catch (error) {
  console.log(error instanceof Error ? error.name : typeof error, messageOf(error));
}
