"""The stylesheet compiler: a line per case, what is written and what comes out of it."""

from __future__ import annotations

import pytest

COMPILED = r"""
a { color: #FFAABB; } => a{color:#fab}
@w: 10px; a { width: @w; b { width: (@w * 2 + 1); } } => a{width:10px}a b{width:21px}
@a: @b; a { top: @a; } @b: 1px; @b: 2px; => a{top:2px}
a { &:hover, & > b { top: 0px; } } => a:hover,a>b{top:0}
.m(@x; @y: 2px) { top: @x; left: @y; } a { .m(1px); } => a{top:1px;left:2px}
.n(@i) when (@i > 0) { .n(@i - 1); .c-@{i} { order: @i; } } .n(2); => .c-1{order:1}.c-2{order:2}
a { @media (min-width: 9px) { top: 1px; } left: 0; } => @media (min-width:9px){a{top:1px}}a{left:0}
@media print { a { @media (color) { top: 1px; } } } => @media print and (color){a{top:1px}}
@font-face { src: url(x); } @font-face { src: url(y); } => @font-face{src:url(x)}@font-face{src:url(y)}
@keyframes k { from { top: 0 } to { top: 1px } } => @keyframes k{from{top:0}to{top:1px}}
a { top: 1px; } b { top: 2px; } a { top: 3px; } => a{top:1px}b{top:2px}a{top:3px}
a { background: url(data:x;y//z); content: '/* no */'; } // gone => a{background:url(data:x;y//z);content:'/* no */'}
a { color: darken(#808080, 10%); fill: fade(#000, 50%); } => a{color:#676767;fill:rgba(0,0,0,.5)}
a { font: 1rem/1.5 x; width: calc(100% - 2px); margin: 0 -1px; } => a{font:1rem/1.5 x;width:calc(100% - 2px);margin:0 -1px}
a { --x: 1; color: var(--x); width: ~'calc(1px+@{w})'; } @w: 2px; => a{--x:1;color:var(--x);width:calc(1px+2px)}
@import 'source/_part'; a { top: @part; } => a{top:7px}
"""
REFUSED = r"""
a { top: @nope; } => css/case.less:1: @nope is not defined
a {\n top: 1px; => css/case.less:2: the "{" of line 1 is not closed
a {\n top: 1px;\n b { left: (1px + red); } } => css/case.less:3: 1px + red cannot be computed
a { } } => "}" closes nothing
@a: @a; a { top: @a; } => @a is not defined
.m() { .m(); } a { .m(); } => a mixin calls itself for ever
a { .m(1); } => there is no mixin .m with 1 arguments
@import 'nowhere'; => css/nowhere.less is imported, but neither the theme nor its parents have it
@import 'case'; => css/case.less imports itself
"""


def rows(table):
    return [line.replace(r"\n", "\n").split(" => ") for line in table.strip().splitlines()]


def compiled(source, text):
    folder = source.path / "app/design/frontend/Shop/base/web/css"
    (folder / "case.less").write_text(text)
    (folder / "source/_part.less").write_text("@part: 7px;")
    done = source.magento("setup:static-content:deploy", "-f", "-t", "Shop/base", "-l", "en_US")
    output = source.path / "pub/static/frontend/Shop/base/en_US/css/case.css"
    return done, output.read_text() if done.returncode == 0 else ""


@pytest.mark.parametrize(("text", "css"), rows(COMPILED))
def test_stylesheet_compiles(source, text, css):
    done, output = compiled(source, text)
    assert (done.stderr, output) == ("", css)


@pytest.mark.parametrize(("text", "sentence"), rows(REFUSED))
def test_stylesheet_is_refused_with_its_place(source, text, sentence):
    done, _ = compiled(source, text)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
