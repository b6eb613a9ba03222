/** Why a guest cannot be had here, or null if it can, in which case it is in the cache from now on. */
import { HostError } from "../../src/base/errors.ts";
import { debianGuest, type GuestKind } from "../../src/guest/default_guest.ts";

export async function whyNoGuest(kind: GuestKind): Promise<string | null> {
  try {
    await debianGuest(kind, () => {});
    return null;
  } catch (error) {
    if (error instanceof HostError && /has no apt-get|Cannot download/.test(error.message)) return error.message;
    throw error; // any other failure is what the tests are to find
  }
}
