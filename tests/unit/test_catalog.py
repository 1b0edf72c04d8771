from compat.catalog import load_catalog


def test_the_recommended_alias_points_at_a_known_model():
    catalog = load_catalog()
    assert catalog.aliases["claude-4-sonnet"].target in catalog.models
