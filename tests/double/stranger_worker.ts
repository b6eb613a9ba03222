/** A thread that calls the double without having attached to it. */
(self as unknown as { onmessage: (e: MessageEvent<string>) => void }).onmessage = ({ data }) => {
  const library = Deno.dlopen(data, { hv_vm_create: { parameters: ["u64"], result: "u32" } });
  (self as unknown as { postMessage(code: number): void }).postMessage(library.symbols.hv_vm_create(0n));
};
