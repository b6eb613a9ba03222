/** Kernels of distributions, for tests: the vmlinuz files of the folder that TRIKE_KERNELS names, or of /boot. */
export function kernels(): string[] {
  const folder = Deno.env.get("TRIKE_KERNELS") || "/boot";
  try {
    return [...Deno.readDirSync(folder)]
      .filter(({ name }) => name.startsWith("vmlinuz"))
      .map(({ name }) => `${folder}/${name}`)
      .sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
