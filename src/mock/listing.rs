//! The list of models and its entries.

use serde_json::{Value, json};

use super::{call::Dialect, model::LISTED};

pub(super) fn list(dialect: Dialect) -> Value {
    let models: Vec<Value> = LISTED
        .into_iter()
        .map(|name| entry(dialect, name))
        .collect();
    match dialect {
        Dialect::Anthropic => json!({
            "data": models,
            "first_id": LISTED[0],
            "has_more": false,
            "last_id": LISTED[LISTED.len() - 1],
        }),
        Dialect::Gemini => json!({ "models": models }),
        Dialect::OpenAi => json!({ "object": "list", "data": models }),
    }
}

pub(super) fn entry(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::Anthropic => json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2025-01-01T00:00:00Z",
        }),
        Dialect::Gemini => json!({
            "name": format!("models/{name}"),
            "version": "1",
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        }),
        Dialect::OpenAi => json!({
            "id": name,
            "object": "model",
            "created": CREATED,
            "owned_by": "tollgate",
        }),
    }
}

/// 2025-01-01T00:00:00Z, for every model.
const CREATED: i64 = 1_735_689_600;
