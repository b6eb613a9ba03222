/** Access rights of a segment, packed as SegmentState has them, in KVM's struct kvm_segment. */
import * as K from "../../../ffi/kvm.ts";

/** Bits of the packed access rights and the fields they come from. */
export const RIGHTS = [
  [0, 15, K.kvm_segment.type],
  [4, 1, K.kvm_segment.s],
  [5, 3, K.kvm_segment.dpl],
  [7, 1, K.kvm_segment.present],
  [12, 1, K.kvm_segment.avl],
  [13, 1, K.kvm_segment.l],
  [14, 1, K.kvm_segment.db],
  [15, 1, K.kvm_segment.g],
  [16, 1, K.kvm_segment.unusable],
] as const;
