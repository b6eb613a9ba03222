/**
 * From a control-flow graph to structured control flow: the dominator tree, walked once [ramsey22].
 *
 * A node's code is followed by the code of the nodes it dominates; nodes where several forward edges meet get a block to break
 * out of, targets of back edges a loop. An edge against reverse postorder whose target does not dominate its source cannot be
 * expressed (an irreducible graph): it is handed back as an exit.
 */
import type { Code, Label } from "../../../wasm/code.ts";

export interface Graph {
  /** Successors by node number; node 0 is the entry. */
  readonly successors: readonly (readonly number[])[];
}

export class Structure {
  /** Position in reverse postorder, or -1 if unreachable. */
  readonly order: Int32Array;
  readonly #sequence: number[] = [];
  readonly #idom: Int32Array;
  readonly #children: number[][];
  readonly #merge: boolean[];
  readonly #header: boolean[];
  readonly #labels: (Label | undefined)[];

  constructor(private readonly graph: Graph) {
    const n = graph.successors.length;
    this.order = new Int32Array(n).fill(-1);
    this.#idom = new Int32Array(n).fill(-1);
    this.#children = Array.from({ length: n }, () => []);
    this.#merge = new Array(n).fill(false);
    this.#header = new Array(n).fill(false);
    this.#labels = new Array(n);
    this.#postorder();
    this.#dominators();
    const forward = new Int32Array(n);
    for (const from of this.#sequence) {
      for (const to of graph.successors[from]!) {
        if (this.order[to]! > this.order[from]!) forward[to]!++;
        else if (this.dominates(to, from)) this.#header[to] = true;
      }
    }
    for (let i = 0; i < n; i++) this.#merge[i] = forward[i]! > 1;
    for (const node of this.#sequence) if (node !== 0) this.#children[this.#idom[node]!]!.push(node);
  }

  /** Nodes in reverse postorder. */
  get sequence(): readonly number[] {
    return this.#sequence;
  }

  #postorder(): void {
    const n = this.graph.successors.length, seen = new Uint8Array(n), post: number[] = [];
    const stack: [number, number][] = [[0, 0]];
    seen[0] = 1;
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const next = this.graph.successors[top[0]]![top[1]++];
      if (next === undefined) {
        post.push(top[0]);
        stack.pop();
      } else if (!seen[next]) {
        seen[next] = 1;
        stack.push([next, 0]);
      }
    }
    post.reverse().forEach((node, i) => {
      this.order[node] = i;
      this.#sequence.push(node);
    });
  }

  #dominators(): void {
    const predecessors: number[][] = this.graph.successors.map(() => []);
    for (const from of this.#sequence) for (const to of this.graph.successors[from]!) predecessors[to]!.push(from);
    this.#idom[0] = 0;
    for (let changed = true; changed;) {
      changed = false;
      for (const node of this.#sequence) {
        if (node === 0) continue;
        let dom = -1;
        for (const p of predecessors[node]!) {
          if (this.#idom[p]! < 0) continue;
          dom = dom < 0 ? p : this.#meet(dom, p);
        }
        if (dom !== this.#idom[node]) {
          this.#idom[node] = dom;
          changed = true;
        }
      }
    }
  }

  #meet(a: number, b: number): number {
    while (a !== b) {
      while (this.order[a]! > this.order[b]!) a = this.#idom[a]!;
      while (this.order[b]! > this.order[a]!) b = this.#idom[b]!;
    }
    return a;
  }

  dominates(a: number, b: number): boolean {
    while (this.order[b]! > this.order[a]!) b = this.#idom[b]!;
    return a === b;
  }

  isBackEdge(from: number, to: number): boolean {
    return this.order[to]! <= this.order[from]!;
  }
  /** Whether the edge can be expressed: forward, or back to a node that dominates its source. */
  expressible(from: number, to: number): boolean {
    return !this.isBackEdge(from, to) || this.dominates(to, from);
  }

  /** Whether the target's code stands where the edge is: nothing else leads there. */
  isInline(from: number, to: number): boolean {
    return !this.isBackEdge(from, to) && !this.#merge[to] && !this.#header[to];
  }
  /** Whether back edges lead to the node. */
  isHeader(n: number): boolean {
    return this.#header[n]!;
  }

  /** Emits everything: `node(n)` emits node n's own code and, through `edge`, what follows it. */
  emit(code: Code, node: (n: number) => void): void {
    this.#code = code;
    this.#node = node;
    this.#tree(0);
  }
  #code!: Code;
  #node!: (n: number) => void;

  #tree(n: number): void {
    const merges = this.#children[n]!.filter((c) => this.#merge[c]).sort((a, b) => this.order[a]! - this.order[b]!);
    const body = () => this.#within(n, merges);
    if (this.#header[n]) {
      this.#code.loop((label) => {
        this.#labels[n] = label;
        body();
      });
    } else body();
  }

  /** Node n inside blocks for the merge nodes it dominates: the last of them outermost. */
  #within(n: number, merges: number[]): void {
    const last = merges[merges.length - 1];
    if (last === undefined) return this.#node(n);
    const header = this.#labels[last];
    this.#code.block((label) => {
      this.#labels[last] = label;
      this.#within(n, merges.slice(0, -1));
    });
    this.#labels[last] = header;
    this.#tree(last);
  }

  /** Emits the transfer from a node to one of its successors; the edge is expressible. Nothing may follow it. */
  follow(from: number, to: number): void {
    if (this.isBackEdge(from, to) || this.#merge[to]) this.#code.br(this.#labels[to]!);
    else this.#tree(to);
  }
}
