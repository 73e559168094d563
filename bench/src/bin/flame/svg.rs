//! The picture: a box for each node of the tree, as wide as its share, above the box that called it.
//! A click makes a box as wide as the picture; the field at the top marks what it finds.

use std::fmt::Write;

use super::symbols::Owner;
use super::tree::{Node, Tree};

const WIDTH: f64 = 1600.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 46.0;
/// Narrower boxes are left out: nobody could see them, and a picture has to stay small.
const NARROWEST: f64 = 0.4;
const CHARACTER: f64 = 6.7;

struct Picture<'t> {
    tree: &'t Tree,
    depth: usize,
    boxes: String,
}

pub fn draw(tree: &Tree, title: &str) -> String {
    let depth = depth(tree, tree.root());
    let mut picture = Picture { tree, depth, boxes: String::new() };
    picture.place(tree.root(), 0.0, 0);
    let height = HEAD + ROW * (depth + 1) as f64 + 10.0;
    let mut title_text = String::new();
    push_escaped(&mut title_text, title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100%\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n\
         <title>{title_text}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fcfcfb\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"15\">{title_text}</text>\n\
         <text x=\"10\" y=\"38\" id=\"told\">{samples} samples; click a box to widen it, the bottom one to \
         go back</text>\n\
         <text x=\"{find}\" y=\"20\" id=\"find\" text-anchor=\"end\">find…</text>\n\
         <g id=\"boxes\">\n{boxes}</g>\n<script><![CDATA[{SCRIPT}]]></script>\n</svg>\n",
        samples = tree.samples(),
        find = WIDTH - 10.0,
        boxes = picture.boxes,
    )
}

fn width(tree: &Tree, node: &Node) -> f64 {
    WIDTH * node.total as f64 / tree.samples() as f64
}

fn depth(tree: &Tree, node: &Node) -> usize {
    let children = tree.children(node).filter(|child| width(tree, child) >= NARROWEST);
    children.map(|child| 1 + depth(tree, child)).max().unwrap_or(0)
}

impl Picture<'_> {
    fn place(&mut self, node: &Node, x: f64, level: usize) {
        let width = width(self.tree, node);
        if width < NARROWEST {
            return;
        }
        let y = HEAD + ROW * (self.depth - level) as f64;
        let name = &*node.frame.name;
        let percent = node.total as f64 * 100.0 / self.tree.samples() as f64;
        let own = node.own as f64 * 100.0 / self.tree.samples() as f64;
        let out = &mut self.boxes;
        out.push_str("<g><title>");
        push_escaped(out, name);
        let _ = write!(
            out,
            "\n{total} samples, {percent:.2} %; itself {own:.2} %</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"16\" fill=\"{colour}\"/>\
             <text x=\"{text_x:.2}\" y=\"{text_y}\">",
            total = node.total,
            colour = colour(node.frame.owner, name),
            text_x = x + 3.0,
            text_y = y + 12.0,
        );
        let room = ((width - 4.0) / CHARACTER) as usize;
        if room >= 3 {
            let shown: String = name.chars().take(room).collect();
            push_escaped(out, &shown);
        }
        out.push_str("</text></g>\n");
        let mut x = x;
        for child in self.tree.children(node) {
            self.place(child, x, level + 1);
            x += WIDTH * child.total as f64 / self.tree.samples() as f64;
        }
    }
}

/// A hue for each owner; within it a shade of the name's own, so that neighbours differ.
fn colour(owner: Owner, name: &str) -> String {
    let shade = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(byte)) % 24;
    let (hue, saturation) = match owner {
        Owner::Kernel => (205, 55),
        Owner::Ours => (28, 85),
        Owner::Library => (90, 35),
    };
    format!("hsl({hue},{saturation}%,{}%)", 62 + shade)
}

fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() => out.push('?'),
            other => out.push(other),
        }
    }
}

const STYLE: &str = "rect{stroke:#fcfcfb;stroke-width:.6}g g{cursor:pointer}g g:hover rect{stroke:#222}\
    text{pointer-events:none}#find{pointer-events:auto;cursor:pointer;fill:#1a5fb4}\
    .found rect{fill:#c061cb}.gone{display:none}.below rect{opacity:.5}";

/// Positions are read from the picture itself: what was drawn is what is widened.
const SCRIPT: &str = r#"
const whole = 1600, told = document.getElementById('told'), first = told.textContent;
const boxes = [...document.querySelectorAll('#boxes > g')].map(g => {
  const rect = g.querySelector('rect'), text = g.querySelector('text');
  const name = g.querySelector('title').textContent;
  return { g, rect, text, name, x: +rect.getAttribute('x'), y: +rect.getAttribute('y'),
    w: +rect.getAttribute('width') };
});
function widen(to) {
  const scale = whole / to.w;
  for (const b of boxes) {
    const below = b.y > to.y && b.x <= to.x + .01 && b.x + b.w >= to.x + to.w - .01;
    const inside = b.y <= to.y && b.x >= to.x - .01 && b.x + b.w <= to.x + to.w + .01;
    const x = below ? 0 : (b.x - to.x) * scale, w = below ? whole : b.w * scale;
    b.g.classList.toggle('gone', !below && !inside);
    b.g.classList.toggle('below', below);
    b.rect.setAttribute('x', x);
    b.rect.setAttribute('width', w);
    b.text.setAttribute('x', x + 3);
    const room = Math.floor((w - 4) / 6.7);
    b.text.textContent = room < 3 ? '' : b.name.split('\n')[0].slice(0, room);
  }
}
for (const b of boxes) b.g.addEventListener('click', () => widen(b));
document.getElementById('find').addEventListener('click', () => {
  const words = prompt('Mark functions whose name has:') || '';
  const all = boxes.reduce((most, b) => Math.max(most, b.w), 0);
  let found = [];
  for (const b of boxes) {
    const is = words !== '' && b.name.split('\n')[0].includes(words);
    b.g.classList.toggle('found', is);
    if (is) found.push(b);
  }
  const outer = found.filter(b => !found.some(o => o !== b && o.y > b.y && o.x <= b.x + .01 &&
    o.x + o.w >= b.x + b.w - .01));
  const share = outer.reduce((sum, b) => sum + b.w, 0) * 100 / all;
  told.textContent = words === '' ? first : `${words}: ${share.toFixed(2)} % of the samples`;
});
"#;

#[cfg(test)]
mod tests {
    use super::super::symbols::Frame;
    use super::*;

    fn drawn(names: &[&str]) -> String {
        let mut tree = Tree::new();
        let frames = names.iter().map(|name| Frame { name: (*name).into(), owner: Owner::Ours });
        tree.add(&frames.collect::<Vec<_>>());
        draw(&tree, "a & b")
    }

    #[test]
    fn names_are_text_and_never_markup() {
        let picture = drawn(&["t", "<a::B>::c&\"", "]]></svg>\u{1}"]);
        assert!(picture.contains("&lt;a::B&gt;::c&amp;&quot;"), "{picture}");
        assert!(picture.contains("]]&gt;&lt;/svg&gt;?"), "{picture}");
        assert_eq!(picture.matches("</svg>").count(), 1);
        assert!(picture.contains("<title>a &amp; b</title>"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let picture = drawn(&["t", "a"]);
        assert_eq!(picture.matches("http").count(), 1, "the name space of SVG alone");
    }

    #[test]
    fn each_box_stands_above_its_caller() {
        let picture = drawn(&["t", "a", "b"]);
        assert_eq!(picture.matches("<rect x=").count(), 4);
        let y = |name: &str| -> f64 {
            let from = picture.find(&format!("<title>{name}\n")).unwrap();
            let at = from + picture[from..].find(" y=\"").unwrap() + 4;
            picture[at..].split('"').next().unwrap().parse().unwrap()
        };
        assert!(y("all") > y("t") && y("t") > y("a") && y("a") > y("b"));
    }
}
