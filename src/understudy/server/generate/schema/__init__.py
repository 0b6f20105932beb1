"""JSON values that satisfy a JSON schema, written by chance, in bounded work whatever the schema."""

from understudy.server.generate.schema.document import SchemaDocument, read_schema
from understudy.server.generate.schema.writer import write_value

__all__ = ["SchemaDocument", "read_schema", "write_value"]
