/** Which format a file's name stands for. */
export type ImageFormat = "raw" | "qcow2";

const QCOW2_NAME = /\.qcow2?$/i;

/** What a file of this name holds, if nobody says otherwise. */
export function formatOfName(path: string): ImageFormat {
  return QCOW2_NAME.test(path) ? "qcow2" : "raw";
}
