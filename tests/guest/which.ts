/** The path of a program of the host, or null; also in the folders of the administrator's programs. */
export function which(program: string): string | null {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
  for (const folder of folders) {
    try {
      if (folder !== "" && Deno.statSync(`${folder}/${program}`).isFile) return `${folder}/${program}`;
    } catch {
      // not here
    }
  }
  return null;
}
