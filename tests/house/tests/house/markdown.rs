//! Just enough of Markdown: prose with its line numbers, fenced blocks, headings, links.

/// One document, taken apart.
pub(crate) struct Document {
    pub(crate) path: String,
    /// Lines outside of fences, with their number (from 1).
    pub(crate) prose: Vec<(usize, String)>,
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block.
pub(crate) struct Block {
    /// What stands behind the opening fence, for example `json` or `sh follow`.
    pub(crate) info: String,
    /// The line of the opening fence (from 1).
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Document {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut prose = Vec::new();
        let mut blocks: Vec<Block> = Vec::new();
        let mut fence: Option<String> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let trimmed = line.trim_start();
            match &fence {
                Some(open)
                    if trimmed.starts_with(open.as_str()) && trimmed.trim_matches('`').trim().is_empty() =>
                {
                    fence = None;
                }
                Some(_) => {
                    let block = blocks.last_mut().expect("an open fence has its block");
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None if trimmed.starts_with("```") => {
                    let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
                    fence = Some("`".repeat(ticks));
                    let info = trimmed[ticks..].trim().to_owned();
                    blocks.push(Block { info, line: number, text: String::new() });
                }
                None => prose.push((number, line.to_owned())),
            }
        }
        Self { path: path.to_owned(), prose, blocks }
    }

    pub(crate) fn blocks_of<'a>(&'a self, info: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.info == info)
    }

    /// The anchors of the headings, as the usual renderers make them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        let mut anchors: Vec<String> = Vec::new();
        for (_, heading) in headings {
            let anchor = slug(heading.trim_start_matches('#').trim());
            let before = anchors.iter().filter(|known| **known == anchor).count();
            anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
        }
        anchors
    }

    /// Destinations of links and images, with their line.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        self.prose.iter().flat_map(|(line, text)| links(text).into_iter().map(|link| (*line, link))).collect()
    }
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// `[text](destination "title")` and `[label]: destination` of one line, without code spans.
fn links(line: &str) -> Vec<String> {
    let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let mut found: Vec<String> = inline.map(str::to_owned).collect();
    if line.starts_with('[')
        && let Some((_, destination)) = line.split_once("]: ")
    {
        found.extend(destination.split_whitespace().next().map(str::to_owned));
    }
    found
}

#[test]
fn prose_blocks_anchors_and_links_are_told_apart() {
    let text = "# A b: `c`\n[x](one.md#a) and ![y](two.png \"t\") `[z](three.md)`\n```json\n[q](four.md)\n```\n# A b: c\n[l]: five.md\n";
    let document = Document::parse("x.md", text);
    let links: Vec<String> = document.links().into_iter().map(|(_, link)| link).collect();
    assert_eq!(links, ["one.md#a", "two.png", "five.md"]);
    assert_eq!(document.anchors(), ["a-b-c", "a-b-c-1"]);
    assert_eq!(document.blocks.len(), 1);
    let block = document.blocks_of("json").next().expect("there is one");
    assert_eq!((block.line, block.text.as_str()), (3, "[q](four.md)\n"));
}
