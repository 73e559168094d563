//! All stacks of a profile merged from their roots, with the samples that passed through each node.

use std::collections::{BTreeMap, BTreeSet};

use super::symbols::{Frame, Owner};

pub struct Node {
    pub frame: Frame,
    /// Samples in this function or in what it called.
    pub total: u64,
    /// Samples in this function itself.
    pub own: u64,
    /// In the order of their names, which puts the same function at the same place in each picture.
    children: BTreeMap<Frame, usize>,
}

pub struct Tree {
    /// The first is the root of all threads.
    nodes: Vec<Node>,
    functions: BTreeMap<Frame, Share>,
    kernel: u64,
}

/// Of one function, wherever it was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub own: u64,
    pub total: u64,
}

impl Tree {
    pub fn new() -> Tree {
        let frame = Frame { name: "all".into(), owner: Owner::Library };
        let root = Node { frame, total: 0, own: 0, children: BTreeMap::new() };
        Tree { nodes: vec![root], functions: BTreeMap::new(), kernel: 0 }
    }

    /// One sample: its frames from the root to the innermost.
    pub fn add(&mut self, stack: &[Frame]) {
        let mut at = 0;
        self.nodes[0].total += 1;
        for frame in stack {
            at = match self.nodes[at].children.get(frame) {
                Some(child) => *child,
                None => self.push(at, frame),
            };
            self.nodes[at].total += 1;
        }
        self.nodes[at].own += 1;
        let Some(innermost) = stack.last() else { return };
        self.kernel += u64::from(innermost.owner == Owner::Kernel);
        self.functions.entry(innermost.clone()).or_default().own += 1;
        // A function that calls itself is counted once a sample.
        for frame in stack.iter().collect::<BTreeSet<_>>() {
            self.functions.entry(frame.clone()).or_default().total += 1;
        }
    }

    fn push(&mut self, parent: usize, frame: &Frame) -> usize {
        let index = self.nodes.len();
        let children = BTreeMap::new();
        self.nodes.push(Node { frame: frame.clone(), total: 0, own: 0, children });
        self.nodes[parent].children.insert(frame.clone(), index);
        index
    }

    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    pub fn children<'t>(&'t self, node: &'t Node) -> impl Iterator<Item = &'t Node> {
        node.children.values().map(|index| &self.nodes[*index])
    }

    pub fn samples(&self) -> u64 {
        self.root().total
    }

    /// Samples whose innermost function is the kernel's.
    pub fn kernel_samples(&self) -> u64 {
        self.kernel
    }

    pub fn functions(&self) -> impl Iterator<Item = (&Frame, Share)> {
        self.functions.iter().map(|(frame, share)| (frame, *share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str) -> Frame {
        let owner = if name.starts_with("k_") { Owner::Kernel } else { Owner::Ours };
        Frame { name: name.into(), owner }
    }

    fn tree(stacks: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for stack in stacks {
            tree.add(&stack.split(' ').map(frame).collect::<Vec<_>>());
        }
        tree
    }

    #[test]
    fn stacks_share_their_beginnings() {
        let tree = tree(&["t a b", "t a c", "t a", "t a b k_x"]);
        assert_eq!(tree.samples(), 4);
        assert_eq!(tree.kernel_samples(), 1);
        let thread = tree.children(tree.root()).next().unwrap();
        let a = tree.children(thread).next().unwrap();
        assert_eq!((a.total, a.own), (4, 1));
        let below: Vec<(&str, u64)> =
            tree.children(a).map(|node| (&*node.frame.name, node.total)).collect();
        assert_eq!(below, [("b", 2), ("c", 1)]);
    }

    #[test]
    fn a_function_in_its_own_callees_counts_once() {
        let tree = tree(&["t a b a", "t b"]);
        let share = |name: &str| {
            let wanted = frame(name);
            tree.functions().find(|(frame, _)| **frame == wanted).map(|(_, share)| share)
        };
        assert_eq!(share("a"), Some(Share { own: 1, total: 1 }));
        assert_eq!(share("b"), Some(Share { own: 1, total: 2 }));
    }
}
