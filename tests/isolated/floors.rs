//! The house: who may import whom, read from the sources by a parser and held against CONTRIBUTING's table of floors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// Two files that need each other and are still told apart, beside each builder and its type: what is remembered and the queue
/// of what is to be written of it, a decision and its table. Whatever else goes in a circle is one room too many, or one wall.
const PAIRS: &[[&str; 2]] = &[
    ["client::exchange", "client::exchange::login_proof"],
    ["client::remembered_ids", "client::store_queue"],
    ["service::refusal", "service::refusal::table"],
];

/// Circles that are still to be cut: a new one, or one file more in one of these, is a fault.
const LEFT: &[&[&str]] = &[
    &["local::admin", "local::admin::orders"],
    &["local::pool_service", "local::snapshot", "local::state_file"],
    &["local::policy", "local::policy::condition", "local::policy::document"],
    &["refresh", "refresh::background", "refresh::engine", "refresh::state"],
    &["refresh_token", "refresh_token::builder", "refresh_token::grant"],
    &[
        "users",
        "users::builder",
        "users::entry",
        "users::refresher",
        "users::table",
    ],
];

/// A file of `src` as a module: its path in the crate, and what its names stand for.
#[derive(Default)]
struct Module {
    /// Where each imported or re-exported name comes from, and whether it is private.
    uses: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Paths that begin with `crate`, `self` or `super` in the file's code, made absolute; `use` of others included.
    paths: BTreeSet<Vec<String>>,
}

type House = BTreeMap<Vec<String>, Module>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// `src/client/exchange.rs` is `client::exchange`; `src/lib.rs` is the empty path.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(source()).unwrap().with_extension("");
    let mut path: Vec<_> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        list.path.is_ident("cfg")
            && list
                .tokens
                .to_string()
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| word == "test")
            && !list.tokens.to_string().contains("not")
    })
}

/// Walks a file's code, without its tests.
struct Reader {
    /// Of the file, and of the inline modules around what is read.
    at: Vec<String>,
    module: Module,
}

impl Reader {
    fn absolute(&self, segments: Vec<String>) -> Option<Vec<String>> {
        let mut base = self.at.clone();
        let mut segments = segments.into_iter().peekable();
        match segments.peek()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while segments.next_if(|segment| segment == "super").is_some() {
                    base.pop();
                }
                base.extend(segments);
                return Some(base);
            }
            // An own child or item, or another crate: told apart later.
            _ => {
                base.extend(segments);
                return Some(base);
            }
        }
        segments.next();
        base.extend(segments);
        Some(base)
    }

    fn tree(&mut self, tree: &syn::UseTree, prefix: &[String], public: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                let prefix = [prefix, &[path.ident.to_string()]].concat();
                self.tree(&path.tree, &prefix, public);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, prefix, public)),
            syn::UseTree::Name(name) => {
                let name = name.ident.to_string();
                let whole = if name == "self" {
                    prefix.to_vec()
                } else {
                    [prefix, &[name]].concat()
                };
                self.import(whole.last().unwrap().clone(), whole, public);
            }
            syn::UseTree::Rename(rename) => {
                let whole = [prefix, &[rename.ident.to_string()]].concat();
                self.import(rename.rename.to_string(), whole, public);
            }
            syn::UseTree::Glob(_) => {
                let Some(path) = self.absolute(prefix.to_vec()) else {
                    return;
                };
                self.module.globs.push(path.clone());
                if !public {
                    self.module.paths.insert(path);
                }
            }
        }
    }

    fn import(&mut self, name: String, path: Vec<String>, public: bool) {
        let Some(path) = self.absolute(path) else { return };
        // A re-export is a door, not a use of what is behind it.
        if !public {
            self.module.paths.insert(path.clone());
        }
        self.module.uses.insert(name, path);
    }
}

impl<'a> Visit<'a> for Reader {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    // `pub(crate)` and `pub(in …)` say where to, not where from.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if item.content.is_some() {
            self.at.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.at.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        self.tree(&item.tree, &[], public);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // What is said without a path was imported, or is the file's own.
        if (segments.len() > 1 || segments[0] == "crate")
            && let Some(path) = self.absolute(segments)
        {
            self.module.paths.insert(path);
        }
        syn::visit::visit_path(self, path);
    }
}

/// Every file of `src` that is no test.
fn house() -> House {
    let mut found = Vec::new();
    files(&source(), &mut found);
    let mut house = House::new();
    for file in found {
        let path = module_of(&file);
        // The program is a crate of its own, which sees the public API alone.
        if path.iter().any(|part| part == "tests") || path.first().is_some_and(|part| part == "bin") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader {
            at: path.clone(),
            module: Module::default(),
        };
        reader.visit_file(&syntax);
        house.insert(path, reader.module);
    }
    assert!(house.len() > 50, "the sources were found");
    house
}

/// The file in which a path ends, through re-exports; none if it leads out of the crate.
fn home(house: &House, path: &[String], depth: usize) -> Option<Vec<String>> {
    let file = (0..=path.len())
        .rev()
        .map(|length| &path[..length])
        .find(|path| house.contains_key(*path))?;
    let Some(name) = path.get(file.len()).filter(|_| depth < 8) else {
        return Some(file.to_vec());
    };
    let module = &house[file];
    if let Some(target) = module.uses.get(name).filter(|target| *target != path) {
        let target = [target.as_slice(), &path[file.len() + 1..]].concat();
        return home(house, &target, depth + 1);
    }
    Some(file.to_vec())
}

/// Which file uses which others, with one path that shows it.
fn edges(house: &House) -> BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>> {
    let mut edges: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (file, module) in house {
        let used = edges.entry(file.clone()).or_default();
        for path in &module.paths {
            // `Vec::new` and `tokio::spawn` look like an own item of that name, which ends in the file itself.
            if let Some(home) = home(house, path, 0)
                && home != *file
            {
                used.insert(home, path.join("::"));
            }
        }
    }
    edges
}

/// The rows of CONTRIBUTING's table of floors: rooms from left to right, and whether they are wings.
fn floors() -> Vec<(Vec<String>, bool)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md")).unwrap();
    let table = text.split("| floor |").nth(1).expect("a table of floors");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let floors: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let rooms = cells[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (rooms, cells[3].contains("never import each other"))
        })
        .collect();
    assert!(floors.len() >= 4, "{floors:?}");
    floors
}

#[test]
fn rooms_import_from_the_floors_below_and_from_their_left_alone() {
    let (house, floors) = (house(), floors());
    let place = |room: &str| {
        let floor = floors
            .iter()
            .position(|(rooms, _)| rooms.iter().any(|name| name == room))?;
        let at = floors[floor].0.iter().position(|name| name == room)?;
        Some((floor, at))
    };
    let room = |file: &[String]| file.first().map_or("lib", String::as_str).to_owned();
    let mut faults = BTreeSet::new();
    for (file, used) in edges(&house) {
        let from = room(&file);
        let Some(here) = place(&from) else {
            faults.insert(format!("`{from}` is in no row of the table of floors"));
            continue;
        };
        for (home, path) in used {
            let to = room(&home);
            let Some(there) = place(&to) else { continue };
            let wings = here.0 == there.0 && floors[here.0].1;
            // `local` is written from the specification: of what the halves make of AWS it knows nothing.
            let specification = from == "local" && matches!(to.as_str(), "service" | "refresh" | "developer" | "users");
            if from != to && (there > here || wings || specification) {
                faults.insert(format!("{} must not use {path}, which is in `{to}`", file.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn files_form_no_circle_but_the_natural_pairs() {
    let house = house();
    let edges = edges(&house);
    let reach: BTreeMap<_, BTreeSet<_>> = edges
        .keys()
        .map(|start| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(file) = next.pop() {
                next.extend(edges[file].keys().filter(|used| seen.insert((*used).clone())));
            }
            (start.clone(), seen)
        })
        .collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let circle: BTreeSet<_> = reached
            .iter()
            .filter(|other| reach[*other].contains(file))
            .map(|file| file.join("::"))
            .collect();
        let names: Vec<_> = circle.iter().map(String::as_str).collect();
        let builder = names.len() == 2 && names.iter().any(|name| name.ends_with("builder"));
        let known = LEFT.iter().any(|left| names.iter().all(|name| left.contains(name)));
        if names.len() > 1 && !builder && !known && !PAIRS.iter().any(|pair| names == pair) {
            circles.insert(circle);
        }
    }
    let told: Vec<_> = circles
        .iter()
        .map(|circle| {
            let inside = edges.iter().filter(|(file, _)| circle.contains(&file.join("::")));
            inside
                .flat_map(|(file, used)| {
                    let used = used.iter().filter(|(home, _)| circle.contains(&home.join("::")));
                    used.map(|(home, path)| format!("{} -> {} by {path}", file.join("::"), home.join("::")))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(circles.is_empty(), "{told:#?}");
}
