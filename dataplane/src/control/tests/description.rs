//! The API's description says what the API does: its routes, its questions, its answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::api;
use super::super::question::FlowsQuestion;
use super::*;

fn description(rig: &Rig) -> Value {
    rig.client().get("/openapi.json").expect("described")
}

/// The paths that are described, each with its method and what it says.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let paths = description["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(|(method, says)| (path.clone(), method.clone(), says.clone()))
    });
    operations.collect()
}

/// A request with an example for each parameter.
fn example(path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let examples = parameters.iter().map(|parameter| {
        let example = &parameter["example"];
        let value = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        format!("{}={value}", parameter["name"].as_str().expect("a name"))
    });
    format!("{path}?{}", examples.collect::<Vec<_>>().join("&"))
}

/// Where `value` is not as `schema` says; knows the words that the description uses, and no others.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => {
            let found = description.pointer(name.strip_prefix('#').expect("a local name"));
            return check(description, found.expect("a schema of that name"), value, place);
        }
        None => schema,
    };
    if let Some(choices) = schema["oneOf"].as_array() {
        return if !value.is_null() {
            check(description, &choices[0], value, place)
        };
    }
    let is_so = match schema["type"].as_str().expect(place) {
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{place}: what is a {other}?"),
    };
    assert!(is_so, "{place}: {value} is not as described: {schema}");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        check(description, &schema["items"], item, &format!("{place}[{number}]"));
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let inside = match schema["properties"].get(key) {
            Some(property) => property,
            None => &schema["additionalProperties"],
        };
        assert!(inside.is_object(), "{place}.{key} is not described");
        check(description, inside, item, &format!("{place}.{key}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().expect("a key")).is_some(), "{place}: {required} is not told");
    }
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let rig = Rig::new("described");
    let description = description(&rig);
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let described: BTreeSet<String> = operations(&description).into_iter().map(|(path, ..)| path).collect();
    let served: BTreeSet<String> =
        api::watching().into_iter().chain(api::owning()).map(|(path, _)| path.to_owned()).collect();
    assert_eq!(described, served);
}

#[test]
fn every_answer_is_as_described() {
    let rig = Rig::new("described-answers");
    let description = description(&rig);
    let schema = |operation: &Value, status: &str| {
        let content = operation["responses"][status]["content"].as_object().expect("content");
        content
            .iter()
            .next()
            .map(|(kind, content)| (kind.clone(), content["schema"].clone()))
            .expect("one kind")
    };
    for (path, method, operation) in operations(&description) {
        let question = example(&path, &operation);
        let (kind, schema) = schema(&operation, "200");
        if kind != "application/json" {
            let client = rig.client();
            let answered = match method.as_str() {
                "get" => !watching::by_socket(&rig, &question).1.is_empty(),
                _ => client.stream(&question, |_| Ok(())).is_ok(),
            };
            assert!(answered, "{question}");
            continue;
        }
        if path == "/purge" {
            // Here is no cache; `web` asks where there is one.
            continue;
        }
        let answer: Value = match method.as_str() {
            "get" => rig.client().get(&question).expect(&question),
            _ => rig.client().post(&question).expect(&question),
        };
        if path != "/openapi.json" {
            check(&description, &schema, &answer, &path);
        }
    }
    // Of flows and the past something must have been told, or nothing was checked.
    let told: Value =
        rig.client().get("/explain?proto=tcp&src=10.77.1.5&dst=192.0.2.9:80").expect("explained");
    check(
        &description,
        &serde_json::json!({ "$ref": "#/components/schemas/Explanation" }),
        &told,
        "explanation",
    );
    for (list, least) in [("flows", 6), ("past", 3)] {
        assert!(told[list].as_array().is_some_and(|told| told.len() >= least), "{told}");
    }
    let history = serde_json::to_value(history::tests::full()).expect("json");
    check(&description, &serde_json::json!({ "$ref": "#/components/schemas/History" }), &history, "history");
    let wrong = watching::by_socket(&rig, "/flows?limit=many").1;
    let failure = serde_json::json!({ "$ref": "#/components/schemas/Failure" });
    check(&description, &failure, &serde_json::from_str(&wrong).expect("json"), "failure");
}

#[test]
fn every_parameter_of_a_question_about_flows_is_described() {
    let description = description(&Rig::new("described-questions"));
    let parameters = description["paths"]["/flows"]["get"]["parameters"].as_array().expect("parameters");
    let described: BTreeSet<&str> =
        parameters.iter().map(|parameter| parameter["name"].as_str().expect("a name")).collect();
    let question = serde_json::to_value(FlowsQuestion::default()).expect("json");
    let known: BTreeSet<&str> = question.as_object().expect("keys").keys().map(String::as_str).collect();
    assert_eq!(described, known);
}
