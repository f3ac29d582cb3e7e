"""What the service understands, as an OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tagseg import __version__
from tagseg.serve.forms import MASKS

if TYPE_CHECKING:
    from tagseg.serve.service import Service

FORMS = ("json", "huggingface", "png", "overlay")


def document(service: Service) -> dict[str, Any]:
    """The document of a service with its classes and limits."""
    names = list(service.classes)
    limits = service.limits
    text = {"type": "string"}
    options: dict[str, Any] = {
        "tags": {
            "type": "string",
            "description": f"what is in the photo, with commas between or a field each: {', '.join(names[1:])}",
        },
        "form": {"type": "string", "enum": list(FORMS), "description": "form of the answer; else by the header Accept"},
        "masks": {"type": "string", "enum": list(MASKS), "default": "rle", "description": "of the form json"},
        "crf": {"type": "boolean", "default": True, "description": "refine by the dense CRF of the recipe"},
        "upright": {
            "type": "boolean",
            "default": False,
            "description": "the photo too, where browsers turn its file otherwise",
        },
        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "description": "least score, of huggingface"},
    }
    integer, number = {"type": "integer"}, {"type": "number"}
    found = _object(
        {
            "class": integer,
            "label": text,
            "color": text,
            "area": integer,
            "share": number,
            "box": {"type": "array", "items": integer, "description": "left, top, width, height"},
            "confidence": number,
            "rle": _object({"size": {"type": "array", "items": integer}, "counts": text}),
            "polygons": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": integer}}},
        },
        required=["class", "label", "color", "area", "share", "box", "confidence"],
    )
    one = _object(
        {
            "name": text,
            "height": integer,
            "width": integer,
            "classes": {"type": "array", "items": text},
            "found": {"type": "array", "items": found},
            "mask": {"type": "string", "format": "byte", "description": "palette PNG, with masks=png"},
            "photo": {"type": "string", "format": "byte", "description": "JPEG, with upright=true"},
        },
        required=["name", "height", "width", "classes", "found"],
    )
    entry = _object({"label": text, "score": number, "mask": {"type": "string", "format": "byte"}})
    many = {"type": "array", "items": {"anyOf": [entry, one, {"type": "array", "items": entry}]}}
    picture = {"schema": {"type": "string", "format": "binary"}}
    answers = {
        "200": {
            "description": "The mask; of several photos a list.",
            "content": {
                "application/json": {"schema": {"anyOf": [one, many]}},
                "image/png": picture,
                "image/jpeg": picture,
            },
        },
        "400": _problem("The request is not understood."),
        "401": _problem("The token is missing or wrong."),
        "403": _problem("Another site's page asked."),
        "413": _problem(f"More than {limits.bytes:,} bytes or {limits.pixels:,} pixels."),
        "422": _problem("A photo cannot be read, or a tag is not known."),
        "503": _problem("The queue is full; the header Retry-After says when to come back."),
    }
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": limits.photos}
    body = {
        "multipart/form-data": {"schema": _object({"image": files, **options}, required=["image"])},
        "application/json": {
            "schema": _object(
                {"inputs": {"type": "string", "format": "byte"}, "parameters": _object(options, required=[])},
                required=["inputs"],
            )
        },
        "application/octet-stream": picture,
        "image/jpeg": picture,
        "image/png": picture,
    }
    query = [{"name": key, "in": "query", "required": False, "schema": value} for key, value in options.items()]
    up = {"200": {"description": "Yes.", "content": {"application/json": {"schema": _object({"status": text})}}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"tagseg: {service.name}",
            "version": service.version,
            "description": f"Masks of photos by a model of tagseg {__version__}. Nothing that is sent is kept.",
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": "The masks of one or several photos",
                    "parameters": query,
                    "requestBody": {"required": True, "content": body},
                    "responses": answers,
                }
            },
            "/health": {"get": {"summary": "Whether the server runs", "responses": up}},
            "/ready": {
                "get": {"summary": "Whether the model is warm", "responses": up | {"503": _problem("Not yet.")}}
            },
            "/info": {
                "get": {"summary": "Classes, version, limits", "responses": _ok("application/json", {"type": "object"})}
            },
            "/metrics": {"get": {"summary": "Counts in Prometheus' form", "responses": _ok("text/plain", text)}},
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


def _problem(description: str) -> dict[str, Any]:
    schema = _object({"status": {"type": "integer"}, "detail": {"type": "string"}})
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _ok(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    refused = {"401": _problem("The token is missing or wrong."), "403": _problem("Another site's page asked.")}
    return {"200": {"description": "As named.", "content": {kind: {"schema": schema}}}} | refused
