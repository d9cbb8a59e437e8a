//! A page with everything in it, read again.

use roxmltree::{Document, Node};

use super::*;

const HOSTILE: &str = "</title><script>alert('x')</script> & | `a` \"q\" [b](c)";

fn page(name: &str) -> Page {
    let rates = (0..10).map(|second| (f64::from(second), 1e6 + f64::from(second))).collect();
    let mut table = Table::of_numbers(["figure", name]);
    table.row([name, "17"]);
    let chart = Chart {
        title: format!("Throughput of {name}"),
        x: Axis::linear("time", Unit::Seconds),
        y: Axis::linear("received", Unit::Packets),
        series: vec![Series::line(name, rates), Series::dots("trials", vec![(3.0, 5e5)])],
    };
    let bar = Bar { name: name.to_owned(), value: 3.0, meaning: name.to_owned() };
    let blocks = vec![
        Block::Text(name.to_owned()),
        Block::Heading(name.to_owned()),
        Block::Verbatim(name.to_owned()),
        Block::Table(table),
        Block::Chart(chart.clone()),
        Block::Chart(Chart { series: Vec::new(), ..chart }),
        Block::Bars(Bars { title: name.to_owned(), unit: Unit::Count, bars: vec![bar] }),
    ];
    Page { title: name.to_owned(), lead: name.to_owned(), sections: vec![Section::new(name, blocks)] }
}

/// The page as XML: maud closes what it opens, but for the elements that HTML never closes, and the type on top.
fn as_xml(html: &str) -> String {
    let body = html.strip_prefix("<!DOCTYPE html>").expect("the type");
    let mut out = String::new();
    for part in body.split_inclusive('>') {
        let is_void = part.starts_with("<meta") || part.starts_with("<link");
        let closed = part.strip_suffix('>').filter(|_| is_void).map(|open| format!("{open}/>"));
        out.push_str(closed.as_deref().unwrap_or(part));
    }
    out
}

fn named<'a>(document: &'a Document<'_>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    document.descendants().filter(move |node| node.has_tag_name(name))
}

#[test]
fn a_page_is_well_formed_and_its_charts_name_axes_units_and_series() {
    let html = page("nat-64b").html();
    let xml = as_xml(&html);
    let document = Document::parse(&xml).expect("well-formed");
    let texts: Vec<&str> = named(&document, "text").filter_map(|node| node.text()).map(str::trim).collect();
    for told in ["received, Mpps", "time, s", "0.0", "1.0", "8"] {
        assert!(texts.contains(&told), "{told} is not in {texts:?}");
    }
    assert_eq!(named(&document, "svg").count(), 1);
    assert!(html.contains("Nothing was measured."));
    let legend: Vec<_> = named(&document, "li").filter_map(|node| node.last_child()?.text()).collect();
    assert_eq!(legend, ["nat-64b", "trials"]);
    assert_eq!(
        named(&document, "polyline").filter(|line| line.attribute("stroke-width") == Some("8")).count(),
        1
    );
    assert_eq!(named(&document, "circle").count(), 1);
}

#[test]
fn a_page_asks_for_nothing_and_runs_nothing() {
    let html = page("nat-64b").html();
    for word in ["http:", "https:", "src=", "@import", "url(", "<script", "onload"] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn what_a_hostile_text_says_is_text() {
    let html = page(HOSTILE).html();
    let xml = as_xml(&html);
    let document = Document::parse(&xml).expect("well-formed");
    assert_eq!(named(&document, "script").count(), 0);
    for name in ["h1", "h2", "h3", "pre", "td", "title"] {
        assert!(named(&document, name).any(|node| node.text() == Some(HOSTILE)), "{name}");
    }
    let markdown = page(HOSTILE).markdown();
    let table: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(table.len() == 6 && table[..3].iter().all(|line| cells(line) == 3), "{table:?}");
    let tags = markdown.replace("\\<", "");
    assert_eq!(tags.matches("<script").count(), 1, "only in the verbatim block: {markdown}");
}

#[test]
fn colours_that_the_style_sheet_turns_dark_are_those_that_are_drawn() {
    let html = page("a").html();
    for color in [plot::INK, plot::GRID].map(plot::hex) {
        assert!(html.contains(&format!("stroke=\"{color}\"")), "{color} is not drawn");
        assert!(html.contains(&format!("[stroke=\"{color}\"]")), "{color} is not in the style sheet");
    }
}

#[test]
fn a_fence_is_longer_than_any_inside() {
    let page = Page {
        title: "a".to_owned(),
        lead: String::new(),
        sections: vec![Section::new("b", vec![Block::Verbatim("````\ntext\n".to_owned())])],
    };
    assert!(page.markdown().ends_with("`````\n````\ntext\n`````\n"), "{}", page.markdown());
}
