//! What a client gets in place of a page that is blocked.

use std::net::Ipv4Addr;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

/// A template of HTML in Jinja's language. What it is filled with is escaped.
#[derive(Debug)]
pub(super) struct Page {
    environment: Environment<'static>,
}

/// What the template is called in messages.
const NAME: &str = "page";

/// What a template may name.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocked {
    /// As far as the request tells it.
    pub url: String,
    pub host: String,
    pub category: String,
    pub client: Option<Ipv4Addr>,
    /// The entry that covers the URL.
    pub rule: String,
}

impl Default for Page {
    fn default() -> Self {
        Self::new(include_str!("page.html").to_owned())
            .expect("invariant: the page that comes along is right")
    }
}

impl Page {
    /// Tries the template, so that a name in it that does not exist is found now.
    pub(super) fn new(source: String) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template_owned(NAME, source)?;
        let page = Self { environment };
        page.render(&Blocked::default())?;
        Ok(page)
    }

    pub(super) fn render(&self, blocked: &Blocked) -> Result<String, minijinja::Error> {
        let Blocked { url, host, category, client, rule } = blocked;
        let client = client.map(|address| address.to_string());
        self.environment.get_template(NAME)?.render(context! { url, host, category, client, rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asked_for_is_text_on_the_page() {
        let hostile = r#"http://a.example/<script>alert("x")</script>&'{{ 7 * 7 }}"#;
        let blocked = Blocked { url: hostile.to_owned(), rule: "<b>".to_owned(), ..Blocked::default() };
        for page in
            [Page::default(), Page::new(r#"<a title="{{ url }}">{{ rule }}</a>"#.to_owned()).expect("right")]
        {
            let html = page.render(&blocked).expect("a page");
            assert!(html.contains("&lt;script&gt;alert(&quot;x&quot;)"), "{html}");
            assert!(html.contains("&lt;b&gt;") && html.contains("7 * 7"), "{html}");
            assert!(!html.contains("<script"), "{html}");
        }
    }

    #[test]
    fn a_template_with_a_fault_is_none() {
        assert!(Page::new("{{ url".to_owned()).is_err());
        let error = Page::new("{{ urll }}".to_owned()).expect_err("there is no such name");
        assert!(error.to_string().contains("undefined"), "{error}");
    }
}
