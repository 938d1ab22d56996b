//! Boundaries of words in an expression: of ASCII, unless it says otherwise.

use regex_syntax::ast::{
    AssertionKind, Ast, ClassSet, ClassSetItem, Concat, Flag, Flags, FlagsItemKind, GroupKind,
    parse::Parser,
};

use super::Refused;

/// The expression with every `\b` of ASCII that does not say what it is of.
///
/// Beside what is no ASCII such a boundary is not where it looks, so there it is refused.
pub(super) fn ascii(text: &str) -> Result<String, Refused> {
    let ast = Parser::new()
        .parse(text)
        .map_err(|why| Refused(why.to_string().into()))?;
    let mut places = Vec::new();
    find(&ast, false, &mut places)?;
    let (mut out, mut at) = (String::new(), 0);
    for (start, end) in places {
        out += &text[at..start];
        out += &format!("(?-u:{})", &text[start..end]);
        at = end;
    }
    Ok(out + &text[at..])
}

/// Finds the boundaries; `said` where a flag has said what they are of.
fn find(ast: &Ast, said: bool, places: &mut Vec<(usize, usize)>) -> Result<(), Refused> {
    match ast {
        Ast::Assertion(assertion) if !said && is_boundary(&assertion.kind) => {
            places.push((assertion.span.start.offset, assertion.span.end.offset));
            Ok(())
        }
        Ast::Repetition(repetition) => find(&repetition.ast, said, places),
        Ast::Group(group) => {
            let said = match &group.kind {
                GroupKind::NonCapturing(flags) => said || says(flags),
                _ => said,
            };
            find(&group.ast, said, places)
        }
        Ast::Alternation(all) => all.asts.iter().try_for_each(|ast| find(ast, said, places)),
        Ast::Concat(all) => concat(all, said, places),
        _ => Ok(()),
    }
}

fn concat(all: &Concat, mut said: bool, places: &mut Vec<(usize, usize)>) -> Result<(), Refused> {
    for (at, ast) in all.asts.iter().enumerate() {
        if let Ast::Flags(set) = ast {
            said |= says(&set.flags);
        }
        if let Ast::Assertion(assertion) = ast
            && !said
            && is_boundary(&assertion.kind)
        {
            let before = at.checked_sub(1).and_then(|before| all.asts.get(before));
            let foreign = before.is_some_and(|ast| is_foreign(ast, false))
                || all
                    .asts
                    .get(at + 1)
                    .is_some_and(|ast| is_foreign(ast, true));
            if foreign {
                let why = r"\b is of ASCII and stands beside what is none; write (?u:\b)";
                return Err(Refused(why.into()));
            }
        }
        find(ast, said, places)?;
    }
    Ok(())
}

fn says(flags: &Flags) -> bool {
    let unicode = FlagsItemKind::Flag(Flag::Unicode);
    flags.items.iter().any(|item| item.kind == unicode)
}

fn is_boundary(kind: &AssertionKind) -> bool {
    use AssertionKind as A;
    !matches!(kind, A::StartLine | A::EndLine | A::StartText | A::EndText)
}

/// Whether something begins, or ends, with what is no ASCII: a literal, a class of Unicode, one in brackets that names such.
fn is_foreign(ast: &Ast, begins: bool) -> bool {
    match ast {
        Ast::Literal(literal) => !literal.c.is_ascii(),
        Ast::ClassUnicode(_) => true,
        Ast::ClassBracketed(class) => is_foreign_set(&class.kind),
        Ast::Repetition(repetition) => is_foreign(&repetition.ast, begins),
        Ast::Group(group) => is_foreign(&group.ast, begins),
        Ast::Alternation(all) => all.asts.iter().any(|ast| is_foreign(ast, begins)),
        Ast::Concat(all) => {
            let edge = if begins {
                all.asts.first()
            } else {
                all.asts.last()
            };
            edge.is_some_and(|ast| is_foreign(ast, begins))
        }
        _ => false,
    }
}

fn is_foreign_set(set: &ClassSet) -> bool {
    match set {
        ClassSet::Item(item) => is_foreign_item(item),
        ClassSet::BinaryOp(op) => is_foreign_set(&op.lhs) || is_foreign_set(&op.rhs),
    }
}

fn is_foreign_item(item: &ClassSetItem) -> bool {
    match item {
        ClassSetItem::Literal(literal) => !literal.c.is_ascii(),
        ClassSetItem::Range(range) => !range.end.c.is_ascii(),
        ClassSetItem::Unicode(_) => true,
        ClassSetItem::Bracketed(class) => is_foreign_set(&class.kind),
        ClassSetItem::Union(union) => union.items.iter().any(is_foreign_item),
        _ => false,
    }
}
