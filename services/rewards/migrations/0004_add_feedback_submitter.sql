-- Who sent it in (`user:<id>`, `key:<id>`, `service:<name>`), which is not always whose word it is. Null: from before.
ALTER TABLE feedback ADD COLUMN submitted_by text;
