/** @file What a Markdown page holds that can be checked: fenced blocks, inline code, links, headings. Pure. */

/** A fenced block. */
export interface Block {
  /** What stands behind the fence: "sh", "yaml". */
  readonly language: string;
  readonly text: string;
}

/** Fenced blocks, in order. */
export function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n(.*?)^```/gms)].map(([, language, text]) => ({
    language: language as string,
    text: text as string,
  }));
}

/** Text outside of fenced blocks. */
function proseOf(markdown: string): string {
  return markdown.replace(/^```.*?^```/gms, "");
}

/** Code within lines. */
export function inlineCodeOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/`([^`\n]+)`/g)].map(([, code]) => code as string);
}

/** Targets of links and images. */
export function linksOf(markdown: string): string[] {
  const prose = proseOf(markdown).replace(/`[^`\n]+`/g, "");
  return [...prose.matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target as string);
}

/** Anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(markdown: string): string[] {
  return [...proseOf(markdown).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    (title as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Commands of a shell block, each as its words: comments left out, lines that end in \ joined, && taken apart. */
export function commandsOf(shell: string): string[][] {
  const commands: string[][] = [];
  for (const line of shell.replaceAll("\\\n", " ").split("\n")) {
    let words: string[] = [];
    for (const [, single, double, plain] of line.matchAll(/'([^']*)'|"([^"]*)"|(#.*$|[^\s'"]+)/g)) {
      if (plain?.startsWith("#")) break;
      if (plain === "&&" || plain === "|" || plain === ";") {
        commands.push(words);
        words = [];
      } else words.push(single ?? double ?? (plain as string));
    }
    commands.push(words);
  }
  return commands.filter((words) => words.length > 0);
}
