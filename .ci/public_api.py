#!/usr/bin/env python3
"""The public API, a line an item, from rustdoc's JSON: for a snapshot that is reviewed by its diff.

    public_api.py DOC.json                   prints the API
    public_api.py DOC.json --crates          prints the other crates whose types are in signatures
"""

import json
import sys

AUTO = {"Send", "Sync", "Unpin", "UnwindSafe", "RefUnwindSafe", "Freeze", "UnsafeUnpin"}
# Said of a type only if it is not so: these are what a user can lose without a compiler's word.
LOST = {"Send", "Sync", "Unpin", "UnwindSafe", "RefUnwindSafe"}


class Api:
    def __init__(self, doc):
        self.index, self.paths, self.externals = doc["index"], doc["paths"], doc["external_crates"]
        self.root = str(doc["root"])
        self.lines, self.crates, self.named = set(), {}, {}
        # Where each item is reached from first, the shortest path, so that a type has one name.
        self.walk_names(self.index[self.root], [])

    def item(self, ident):
        return self.index.get(str(ident))

    def walk_names(self, module, path):
        queue, seen = [(module, path)], set()
        while queue:
            module, path = queue.pop(0)
            for child, name in self.children(module):
                kind = next(iter(child["inner"]))
                if kind == "module" and child["id"] not in seen:
                    seen.add(child["id"])
                    queue.append((child, path + [name]))
                self.named.setdefault(str(child["id"]), "::".join(path + [name]))

    def children(self, module):
        """The items of a module by the names that it gives them, re-exports followed."""
        inner = module["inner"]["module"]
        for ident in inner["items"]:
            child = self.item(ident)
            if child is None or child["visibility"] != "public":
                continue
            if "use" in child["inner"]:
                use = child["inner"]["use"]
                target = self.item(use["id"]) if use["id"] is not None else None
                if target is None:
                    yield child, use["name"]
                elif use["is_glob"] and "module" in target["inner"]:
                    yield from self.children(target)
                else:
                    yield target, use["name"]
            else:
                yield child, child["name"]

    # --- types -----------------------------------------------------------------------------------------------------

    def path(self, resolved, where):
        ident = str(resolved["id"])
        known = self.paths.get(ident)
        if known and known["crate_id"] != 0:
            crate = self.externals[str(known["crate_id"])]["name"]
            self.crates.setdefault(crate, set()).add(where)
            name = known["path"][-1] if crate in ("core", "alloc", "std") else "::".join([crate, known["path"][-1]])
        else:
            name = self.named.get(ident) or resolved["path"]
        return name + self.args(resolved.get("args"), where)

    def args(self, args, where):
        if not args:
            return ""
        if "parenthesized" in args:
            part = args["parenthesized"]
            inputs = ", ".join(self.type(kind, where) for kind in part["inputs"])
            output = f" -> {self.type(part['output'], where)}" if part["output"] else ""
            return f"({inputs}){output}"
        part = args.get("angle_bracketed")
        if not part:
            return ""
        out = []
        for arg in part["args"]:
            if "type" in arg:
                out.append(self.type(arg["type"], where))
            elif "lifetime" in arg:
                out.append(arg["lifetime"])
            elif "const" in arg:
                out.append(arg["const"]["expr"])
        for constraint in part["constraints"]:
            binding = constraint["binding"]
            if "equality" in binding:
                out.append(f"{constraint['name']} = {self.type(binding['equality'].get('type'), where)}")
            else:
                out.append(f"{constraint['name']}: {self.bounds(binding['constraint'], where)}")
        return f"<{', '.join(out)}>" if out else ""

    def bounds(self, bounds, where):
        out = []
        for bound in bounds:
            if "trait_bound" in bound:
                modifier = "?" if bound["trait_bound"]["modifier"] == "maybe" else ""
                out.append(modifier + self.path(bound["trait_bound"]["trait"], where))
            elif "outlives" in bound:
                out.append(bound["outlives"])
        return " + ".join(out)

    def type(self, kind, where):
        if kind is None:
            return "()"
        name, inner = next(iter(kind.items()))
        if name in ("primitive", "generic"):
            return inner
        if name == "resolved_path":
            return self.path(inner, where)
        if name == "borrowed_ref":
            lifetime = f"{inner['lifetime']} " if inner["lifetime"] else ""
            return f"&{lifetime}{'mut ' if inner['is_mutable'] else ''}{self.type(inner['type'], where)}"
        if name == "tuple":
            return f"({', '.join(self.type(part, where) for part in inner)})"
        if name == "slice":
            return f"[{self.type(inner, where)}]"
        if name == "array":
            return f"[{self.type(inner['type'], where)}; {inner['len']}]"
        if name == "impl_trait":
            return f"impl {self.bounds(inner, where)}"
        if name == "dyn_trait":
            traits = " + ".join(self.path(poly["trait"], where) for poly in inner["traits"])
            return f"dyn {traits}" + (f" + {inner['lifetime']}" if inner["lifetime"] else "")
        if name == "qualified_path":
            of = self.type(inner["self_type"], where)
            return f"<{of} as {self.path(inner['trait'], where)}>::{inner['name']}" if inner["trait"] else f"{of}::{inner['name']}"
        if name == "function_pointer":
            return "fn" + self.signature(inner["sig"], where)
        if name == "infer":
            return "_"
        raise NotImplementedError(name)

    def generics(self, generics, where):
        out = []
        for param in generics["params"]:
            kind = param["kind"]
            if "type" in kind:
                if kind["type"]["is_synthetic"]:
                    continue
                bounds = self.bounds(kind["type"]["bounds"], where)
                out.append(param["name"] + (f": {bounds}" if bounds else ""))
            elif "lifetime" in kind and param["name"] != "'_":
                out.append(param["name"])
            elif "const" in kind:
                out.append(f"const {param['name']}: {self.type(kind['const']['type'], where)}")
        where_clause = []
        for predicate in generics["where_predicates"]:
            if "bound_predicate" in predicate:
                part = predicate["bound_predicate"]
                where_clause.append(f"{self.type(part['type'], where)}: {self.bounds(part['bounds'], where)}")
        # Lifetimes that async-trait makes up say nothing.
        out = [part for part in out if "async_trait" not in part and not part.startswith("'life")]
        where_clause = [part for part in where_clause if "life" not in part and "async_trait" not in part]
        return (f"<{', '.join(out)}>" if out else ""), (f" where {', '.join(where_clause)}" if where_clause else "")

    def signature(self, sig, where):
        inputs = []
        for name, kind in sig["inputs"]:
            shown = self.type(kind, where)
            if name == "self":
                shown = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}.get(shown, f"self: {shown}")
            else:
                shown = f"{name}: {shown}"
            inputs.append(shown)
        output = f" -> {self.type(sig['output'], where)}" if sig["output"] else ""
        return f"({', '.join(inputs)}){output}"

    # --- items -----------------------------------------------------------------------------------------------------

    def function(self, item, where, prefix):
        inner = item["inner"]["function"]
        generics, clause = self.generics(inner["generics"], where)
        header = inner["header"]
        words = "".join(
            f"{word} " for word, is_so in (("const", header["is_const"]), ("async", header["is_async"]), ("unsafe", header["is_unsafe"])) if is_so
        )
        self.add(where, f"{prefix}{words}fn {where}{generics}{self.signature(inner['sig'], where)}{clause}")

    def add(self, where, line):
        self.lines.add((where, line))

    def run(self):
        self.module(self.index[self.root], [], set())
        return [line for _, line in sorted(self.lines)]

    def module(self, module, path, seen):
        for child, name in self.children(module):
            where = "::".join(path + [name])
            kind, inner = next(iter(child["inner"].items()))
            # A second name of something has a line of its own, but not all that is in it again.
            first = self.named.get(str(child["id"])) == where
            attributes = "#[non_exhaustive] " if "non_exhaustive" in str(child.get("attrs")) else ""
            deprecated = "#[deprecated] " if child.get("deprecation") else ""
            if kind == "module":
                if child["id"] not in seen:
                    seen.add(child["id"])
                    self.add(where, f"mod {where}")
                    self.module(child, path + [name], seen)
            elif not first:
                self.add(where, f"use {self.named.get(str(child['id']))} as {where}")
            elif kind == "use":
                self.add(where, f"use {inner['source']} as {where}")
            elif kind == "function":
                self.function(child, where, deprecated)
            elif kind in ("struct", "enum", "trait", "union"):
                generics, clause = self.generics(inner["generics"], where)
                extra = ""
                if kind == "trait" and inner["bounds"]:
                    extra = f": {self.bounds(inner['bounds'], where)}"
                self.add(where, f"{attributes}{deprecated}{kind} {where}{generics}{extra}{clause}")
                getattr(self, kind)(inner, where)
                self.impls(inner, where)
            elif kind == "constant":
                self.add(where, f"const {where}: {self.type(inner['type'], where)}")
            elif kind == "type_alias":
                generics, _ = self.generics(inner["generics"], where)
                self.add(where, f"type {where}{generics} = {self.type(inner['type'], where)}")
            elif kind == "macro":
                self.add(where, f"macro {where}!")
            else:
                raise NotImplementedError(kind)

    def field(self, ident, where):
        field = self.item(ident)
        if field and field["visibility"] in ("public", "default"):
            self.add(where, f"field {where}.{field['name']}: {self.type(field['inner']['struct_field'], where)}")

    def struct(self, inner, where):
        kind = inner["kind"]
        if "plain" in kind:
            for ident in kind["plain"]["fields"]:
                self.field(ident, where)
        elif "tuple" in kind:
            for ident in kind["tuple"]:
                if ident is not None:
                    self.field(ident, where)

    def enum(self, inner, where):
        for ident in inner["variants"]:
            variant = self.item(ident)
            name = f"{where}::{variant['name']}"
            attributes = "#[non_exhaustive] " if "non_exhaustive" in str(variant.get("attrs")) else ""
            kind = variant["inner"]["variant"]["kind"]
            if kind == "plain":
                self.add(name, f"{attributes}variant {name}")
            elif "tuple" in kind:
                parts = [self.type(self.item(part)["inner"]["struct_field"], where) for part in kind["tuple"] if part is not None]
                self.add(name, f"{attributes}variant {name}({', '.join(parts)})")
            else:
                self.add(name, f"{attributes}variant {name}")
                for part in kind["struct"]["fields"]:
                    self.field(part, name)

    def trait(self, inner, where):
        for ident in inner["items"]:
            item = self.item(ident)
            name, kind = f"{where}::{item['name']}", next(iter(item["inner"]))
            if kind == "function":
                has_body = item["inner"]["function"]["has_body"]
                self.function(item, name, "provided " if has_body else "required ")
            elif kind == "assoc_type":
                self.add(name, f"type {name}: {self.bounds(item['inner'][kind]['bounds'], where)}")
            elif kind == "assoc_const":
                self.add(name, f"const {name}: {self.type(item['inner'][kind]['type'], where)}")

    def impls(self, inner, where):
        for ident in inner.get("impls", inner.get("implementations", [])):
            item = self.item(ident)
            if item is None:
                continue
            part = item["inner"]["impl"]
            if part["blanket_impl"]:
                continue
            if part["trait"] is None:
                for method in part["items"]:
                    method = self.item(method)
                    if method is None or method["visibility"] != "public":
                        continue
                    name, kind = f"{where}::{method['name']}", next(iter(method["inner"]))
                    if kind == "function":
                        self.function(method, name, "#[deprecated] " if method.get("deprecation") else "")
                    elif kind == "assoc_const":
                        self.add(name, f"const {name}: {self.type(method['inner'][kind]['type'], where)}")
                continue
            trait = part["trait"]["path"].split("::")[-1]
            if part["is_negative"] or part["is_synthetic"]:
                if part["is_negative"] and trait in LOST:
                    self.add(where, f"impl !{trait} for {where}")
                continue
            if trait in AUTO or trait == "StructuralPartialEq":
                continue
            generics, clause = self.generics(part["generics"], where)
            shown = f"impl{generics} {self.path(part['trait'], where)} for {self.type(part['for'], where)}{clause}"
            for member in part["items"]:
                member = self.item(member)
                if member and "assoc_type" in member["inner"]:
                    shown += f" {{ {member['name']} = {self.type(member['inner']['assoc_type']['type'], where)} }}"
            self.add(where, shown)


def main():
    with open(sys.argv[1]) as file:
        api = Api(json.load(file))
    lines = api.run()
    if "--crates" in sys.argv:
        for crate, where in sorted(api.crates.items()):
            print(crate, *sorted(where)[:3])
    else:
        print(*lines, sep="\n")


main()
