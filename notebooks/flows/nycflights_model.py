"""A model of the arrival delay: least squares, before departure and once it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["fit_delay"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """One number of the model in words; ``scale`` turns the column's unit into the named one."""

    column: str
    label: str
    scale: float


EFFECTS = (
    Effect("hour", "Each hour later in the day", 1.0),
    Effect("precip", "Each tenth of an inch of rain per hour", 0.1),
    Effect("visib", "Each mile of visibility lost", -1.0),
    Effect("wind_speed", "Each 10 mph of wind", 10.0),
    Effect("temp", "Each 10 °F of warmth", 10.0),
    Effect("distance", "Each 500 miles of distance", 500.0),
    Effect("plane_age", "Each 10 years of aircraft age", 10.0),
)


def fit_delay(trips: pa.Table, test_every: int = 4) -> dict[str, object]:
    """Explain the arrival delay by schedule, weather and aircraft.

    Parameters
    ----------
    trips : pyarrow.Table
        One row per flight, joined with weather and aircraft.
    test_every : int
        Every n-th day is kept for the test, so that no hour is on both sides.

    Returns
    -------
    dict
        ``effects``: label, minutes, low, high (95 % interval, days as clusters), largest first;
        ``r2_before`` and ``r2_at_departure`` on unseen days; ``typical_error_before`` and
        ``typical_error_at_departure`` (median absolute, minutes); ``rows_used``.
    """
    rows = trips.filter(pc.and_(pc.is_valid(trips["arr_delay"]), pc.is_valid(trips["temp"])))
    delay, days = _numbers(rows, "arr_delay"), _day_numbers(rows)
    numeric = np.column_stack([_numbers(rows, effect.column) for effect in EFFECTS])
    features = np.column_stack(
        [
            np.ones(len(delay)),
            numeric,
            _dummies(rows["carrier"]),
            _dummies(rows["origin"]),
            _dummies(rows["month"]),
        ]
    )
    is_test = days % test_every == 0
    before = _Fit.of(features[~is_test], delay[~is_test])
    with_departure = np.column_stack([features, _numbers(rows, "dep_delay")])
    after = _Fit.of(with_departure[~is_test], delay[~is_test])
    errors = before.clustered_errors(days[~is_test])
    guessed, known = before.predict(features[is_test]), after.predict(with_departure[is_test])
    return {
        "effects": _effects(before.weights, errors),
        "r2_before": _r2(delay[is_test], guessed),
        "r2_at_departure": _r2(delay[is_test], known),
        "typical_error_before": float(np.median(np.abs(delay[is_test] - guessed))),
        "typical_error_at_departure": float(np.median(np.abs(delay[is_test] - known))),
        "rows_used": len(delay),
    }


@dataclass(frozen=True)
class _Fit:
    """Least squares by the normal equations: few columns, many rows."""

    features: Floats
    residuals: Floats
    weights: Floats
    inverse: Floats

    @staticmethod
    def of(features: Floats, target: Floats) -> _Fit:
        inverse = np.asarray(np.linalg.pinv(features.T @ features, hermitian=True), np.float64)
        weights = inverse @ (features.T @ target)
        return _Fit(features, target - features @ weights, weights, inverse)

    def predict(self, features: Floats) -> Floats:
        return features @ self.weights

    def clustered_errors(self, clusters: npt.NDArray[np.int64]) -> Floats:
        """Give standard errors that allow all flights of a day to be late together."""
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        scores = np.add.reduceat((self.features * self.residuals[:, None])[order], starts)
        spread = self.inverse @ (scores.T @ scores) @ self.inverse
        return np.sqrt(np.maximum(np.diag(spread), 0.0))


def _effects(weights: Floats, errors: Floats) -> list[dict[str, object]]:
    told: list[dict[str, object]] = []
    for position, effect in enumerate(EFFECTS, start=1):  # 0 is the constant
        minutes = float(weights[position] * effect.scale)
        margin = 1.96 * float(errors[position] * abs(effect.scale))
        told.append(
            {
                "label": effect.label,
                "minutes": minutes,
                "low": minutes - margin,
                "high": minutes + margin,
            }
        )
    return sorted(told, key=lambda each: -abs(float(str(each["minutes"]))))


def _numbers(table: pa.Table, column: str) -> Floats:
    """Read a column as floats, unknown values as the mean."""
    values = table[column].cast(pa.float64())
    mean = pc.mean(values).as_py()
    return np.asarray(values.fill_null(mean if mean is not None else 0.0))


def _day_numbers(table: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(table["day"].cast(pa.date32()).cast(pa.int32())).astype(np.int64)


def _dummies(values: pa.ChunkedArray) -> Floats:
    """One column per value but the most common one, which the constant stands for."""
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    table = np.eye(int(codes.max()) + 1)[codes]
    most_common = int(np.bincount(codes).argmax())
    return np.asarray(np.delete(table, most_common, axis=1))


def _r2(target: Floats, predicted: Floats) -> float:
    """Share of the variance explained, on days the fit has not seen."""
    left = np.sum((target - predicted) ** 2)
    return float(1.0 - left / np.sum((target - target.mean()) ** 2))
